"""Reads a URL that a model wrote, into the one spelling in which it is checked and requested.

Two readers of a URL that disagree about its host are the classic way past a check. So this module accepts only what
has one reading: it normalizes the host as browsers do (WHATWG URL Standard) and rejects whatever is ambiguous.
"""

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

import idna
from yarl import URL

from mesh_agent.tools.web.errors import FetchError, FetchOutcome

_MAX_CHARS: Final = 2_048
_URL: Final = re.compile(r"(?i)^(https?)://([^/?#\\]+)([/?][^#\\]*)?(?:#.*)?$")
_UNREADABLE: Final = re.compile(r"[\x00-\x20\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\ufff0-\uffff]")
_AUTHORITY: Final = re.compile(r"^(\[[0-9A-Fa-f:.]+\]|[^\[\]:@%]+)(?::([0-9]{1,5}))?$", re.ASCII)
_LABEL: Final = re.compile(r"^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$")
_NUMBER: Final = re.compile(r"^(0x[0-9a-f]*|[0-9]+)$")
_MAX_NAME_CHARS: Final = 253
_IPV4_BYTES: Final = 4
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def checked_url(text: str, ports: frozenset[int]) -> URL:
    """The URL without its fragment. Raises FetchError, with a text for the model, for anything else."""
    text = text.strip(" \t\r\n")
    if len(text) > _MAX_CHARS:
        raise _refused(f"The URL is longer than {_MAX_CHARS} characters.")
    found = None if _UNREADABLE.search(text) else _URL.match(text)
    if found is None:
        raise _refused("This is not a URL of the form https://host/path. Only http and https can be fetched.")
    scheme, authority, rest = found[1].lower(), found[2], found[3] or "/"
    host, port = _host_and_port(authority)
    if (_DEFAULT_PORTS[scheme] if port is None else port) not in ports:
        raise _refused("This port cannot be fetched.")
    rest = rest if rest.startswith("/") else f"/{rest}"
    return _built(scheme, host, port, rest)


def _built(scheme: str, host: str, port: int | None, rest: str) -> URL:
    shown = f"[{host}]" if ":" in host else host
    suffix = "" if port is None else f":{port}"
    try:
        url = URL(f"{scheme}://{shown}{suffix}{rest}")
        # Decoded by aiohttp later, which raises for a label that is no punycode.
        is_readable = bool(url.host)
    except ValueError as error:
        raise _refused("This URL cannot be read.") from error
    if not is_readable or url.raw_host != host or url.user is not None or url.password is not None:
        raise _refused("This URL cannot be read.")
    return url


def _host_and_port(authority: str) -> tuple[str, int | None]:
    if "@" in authority:
        raise _refused("A URL with a user name or password cannot be fetched.")
    found = _AUTHORITY.match(authority)
    if found is None:
        raise _refused("The host of this URL cannot be read.")
    host, port = found[1], found[2]
    return _ipv6(host[1:-1]) if host.startswith("[") else _name(host), int(port) if port else None


def _ipv6(text: str) -> str:
    try:
        address = IPv6Address(text)
    except AddressValueError as error:
        raise _refused("The host of this URL cannot be read.") from error
    return str(address)


def _name(text: str) -> str:
    """The host in lower-case ASCII without the root's dot; an IPv4 address in four decimal parts."""
    try:
        name = text.lower() if text.isascii() else idna.encode(text, uts46=True).decode().lower()
    except (idna.IDNAError, UnicodeError) as error:
        raise _refused("The host of this URL cannot be read.") from error
    name = name.removesuffix(".")
    labels = name.split(".")
    if len(name) > _MAX_NAME_CHARS or not all(map(_LABEL.match, labels)):
        raise _refused("The host of this URL cannot be read.")
    return _ipv4(labels) if _NUMBER.match(labels[-1]) else name


def _ipv4(labels: list[str]) -> str:
    """The WHATWG IPv4 parser: up to four parts, each decimal, octal (`0`) or hexadecimal (`0x`); the last fills up."""
    try:
        *high, last = [_number(label) for label in labels]
        # `bytes` accepts no part above 255, `to_bytes` no last part that does not fit, and IPv4Address only four bytes.
        packed = bytes(high) + last.to_bytes(max(1, _IPV4_BYTES - len(high)))
        return str(IPv4Address(packed))
    except (ValueError, OverflowError) as error:
        raise _refused("The host of this URL cannot be read.") from error


def _number(label: str) -> int:
    if label.startswith("0x"):
        return int(label[2:] or "0", 16)
    return int(label, 8 if label.startswith("0") else 10)


def _refused(text: str) -> FetchError:
    return FetchError(FetchOutcome.REFUSED_URL, text)
