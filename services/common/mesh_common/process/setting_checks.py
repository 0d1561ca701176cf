"""Validates settings at start. No message repeats a value, because it may be a secret."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from pydantic import SecretStr

from mesh_common.jwt import SigningKey, parse_jwks
from mesh_common.process.tls_files import read_file

_ENCODE = "characters such as / ? # [ in the password must be percent-encoded"


def signing_key(value: SecretStr) -> SecretStr:
    SigningKey.from_pem(value.get_secret_value())
    return value


def jwks_file(path: Path) -> Path:
    parse_jwks(read_file(path))
    return path


def database_url(value: SecretStr) -> SecretStr:
    parts = _split(value, ("postgresql", "postgres"))
    if not parts.username or not (parts.hostname or "host=" in parts.query) or not parts.path.strip("/"):
        raise ValueError("must be postgresql://user:password@host:5432/database")
    return value


def redis_url(value: SecretStr) -> SecretStr:
    parts = _split(value, ("redis", "rediss", "unix"))
    if parts.scheme != "unix" and not parts.hostname:
        raise ValueError("must be redis://:password@host:6379/0")
    return value


def _split(value: SecretStr, schemes: Sequence[str]) -> SplitResult:
    try:
        parts = urlsplit(value.get_secret_value())
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        # Without a cause, which would repeat the text in place of the port: usually a part of the password.
        raise ValueError(f"is not a URL; {_ENCODE}") from None
    if parts.scheme not in schemes or not has_port or parts.fragment:
        raise ValueError(f"must start with {schemes[0]}:// and be a URL; {_ENCODE}")
    return parts
