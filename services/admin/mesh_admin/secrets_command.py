"""The command `secrets`: a complete set for a new mesh, or the single key or password that a rotation needs."""

import argparse
import re
import sys
from pathlib import Path
from typing import Final

import orjson
from mesh_common.errors import InvalidInput, MeshError
from mesh_common.grpc.edges import SERVICES
from mesh_common.jwt import new_private_key_pem, parse_jwks, public_jwk
from mesh_common.process.settings import load_settings

from mesh_admin.apply_secrets import apply_secrets
from mesh_admin.kubernetes_api import KubernetesSecrets, KubernetesSettings
from mesh_admin.kubernetes_secrets import SKIPPABLE, Place, kubernetes_secrets, to_yaml
from mesh_admin.secrets import make_secrets, new_password, service_jwk, write_dotenv, write_private

# RFC 1123. The name of a Secret is this prefix and at most 20 more characters.
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_REDIS: Final = re.compile(r"[^\s/@:]+:\d{1,5}")
_DATABASE: Final = re.compile(r"[^\s/@:]+:\d{1,5}(/[A-Za-z_][A-Za-z0-9_-]{0,62})?")


def add_secrets_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    secrets = commands.add_parser("secrets", help="generate every key and password of a mesh, or one for rotation")
    secrets.add_argument("--format", choices=("dotenv", "kubernetes"), default="dotenv")
    secrets.add_argument("--folder", type=Path, default=Path("secrets"), help="folder for dotenv files")
    secrets.add_argument(
        "--database", type=_database, default="postgres:5432", help="host:port of PostgreSQL, or host:port/database"
    )
    secrets.add_argument("--redis", type=_redis, default="redis:6379", help="host:port of Redis")
    secrets.add_argument("--prefix", type=_name, default="mesh", help="prefix of the names of Secrets")
    secrets.add_argument("--namespace", type=_name, help="namespace of the Secrets; --apply defaults to the pod's own")
    secrets.add_argument(
        "--apply", action="store_true", help="create all Secrets from inside a pod; do nothing if they already exist"
    )
    secrets.add_argument(
        "--skip", action="append", choices=SKIPPABLE, default=[], help="a Secret that you provide yourself"
    )
    _add_rotation(secrets)


def _add_rotation(secrets: argparse.ArgumentParser) -> None:
    parts = secrets.add_subparsers(dest="part", metavar="PART")
    parts.add_parser("new-signing-key", help="print a new private key (PEM)")
    parts.add_parser("new-password", help="print a new password")
    new_key = parts.add_parser(
        "new-service-key", help="print a new private key of a service and add its public key to the JWKS file"
    )
    drop = parts.add_parser(
        "drop-service-keys", help="drop a service's public keys from the JWKS file, except that of the key on stdin"
    )
    for part in (new_key, drop):
        part.add_argument("service", choices=SERVICES)
        part.add_argument("--jwks", type=Path, required=True, help="the file service-jwks.json")


def run_secrets_command(arguments: argparse.Namespace) -> None:
    """On failure, prints one line and exits with code 1."""
    try:
        sys.stdout.write(_output_of(arguments))
    except MeshError as error:
        sys.exit(error.message)


def _output_of(arguments: argparse.Namespace) -> str:
    match arguments.part:
        case "new-signing-key":
            return new_private_key_pem()
        case "new-password":
            return f"{new_password()}\n"
        case "new-service-key":
            return _new_service_key(arguments.service, arguments.jwks)
        case "drop-service-keys":
            return _drop_service_keys(arguments.service, arguments.jwks, keep_pem=sys.stdin.read())
        case _:
            return _whole_set(arguments)


def _whole_set(arguments: argparse.Namespace) -> str:
    if arguments.format == "dotenv" and not arguments.apply:
        return _write_new_dotenv(arguments)
    place = Place(
        database=arguments.database,
        redis=arguments.redis,
        prefix=arguments.prefix,
        namespace=arguments.namespace,
        skipped=frozenset(arguments.skip),
    )
    secrets = kubernetes_secrets(make_secrets(), place)
    if not arguments.apply:
        return to_yaml(secrets, namespace=arguments.namespace)
    store = KubernetesSecrets(load_settings(KubernetesSettings), arguments.namespace)
    return apply_secrets(store, secrets, prefix=arguments.prefix) + "\n"


def _write_new_dotenv(arguments: argparse.Namespace) -> str:
    if (arguments.folder / "auth.env").exists():
        raise InvalidInput(
            f"{arguments.folder} already holds secrets. Move them away first: new ones would lock out every service."
        )
    try:
        write_dotenv(make_secrets(), arguments.folder, database=arguments.database, redis=arguments.redis)
    except OSError as error:
        raise InvalidInput(f"{arguments.folder} cannot be written: {error.strerror}.") from error
    return f"Secrets written to {arguments.folder}. Keep them out of version control.\n"


def _new_service_key(service: str, jwks_file: Path) -> str:
    pem = new_private_key_pem()
    keys = _read_jwks(jwks_file)
    _write_jwks(jwks_file, [*keys, service_jwk(service, pem)])
    return pem


def _drop_service_keys(service: str, jwks_file: Path, *, keep_pem: str) -> str:
    try:
        kept = public_jwk(keep_pem)["kid"]
    except ValueError as error:
        raise InvalidInput(f"Standard input {error}.") from error
    keys = _read_jwks(jwks_file)
    if not any(key["kid"] == kept and key.get("mesh_service") == service for key in keys):
        raise InvalidInput(f"{jwks_file} does not hold the public part of this key of {service}. Nothing was dropped.")
    remaining = [key for key in keys if key.get("mesh_service") != service or key["kid"] == kept]
    _write_jwks(jwks_file, remaining)
    return f"{len(keys) - len(remaining)} dropped, {len(remaining)} left in {jwks_file}.\n"


def _read_jwks(path: Path) -> list[dict[str, str]]:
    try:
        return list(parse_jwks(path.read_text()).values())
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise InvalidInput(f"{path} {error}.") from error


def _write_jwks(path: Path, keys: list[dict[str, str]]) -> None:
    write_private(path, orjson.dumps({"keys": keys}).decode())


def _name(text: str) -> str:
    return _matching(_NAME, text, "not a valid Kubernetes name (lower-case letters, digits, -)")


def _redis(text: str) -> str:
    return _matching(_REDIS, text, "not host:port")


def _database(text: str) -> str:
    return _matching(_DATABASE, text, "not host:port or host:port/database")


def _matching(pattern: re.Pattern[str], text: str, fault: str) -> str:
    if not pattern.fullmatch(text):
        raise argparse.ArgumentTypeError(fault)
    return text
