"""The client's real address. `X-Forwarded-For` is only the client's claim unless a trusted proxy wrote it."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from starlette.datastructures import Headers
from starlette.types import Scope

_UNKNOWN: Final = "unknown"
# Providers assign a whole /64 to one customer, who can use any address in it.
_IPV6_PREFIX: Final = 64


class ClientAddresses:
    def __init__(self, trusted_proxies: Sequence[IPv4Network | IPv6Network]) -> None:
        self._trusted = tuple(trusted_proxies)

    def key_of(self, scope: Scope) -> str:
        """The address, or the /64 of an IPv6 address, as the key of rate limits."""
        client = scope.get("client")
        address = _parsed(client[0]) if client else None
        if address is None:
            return _UNKNOWN
        for hop in reversed(_forwarded(scope)):
            if not self._is_trusted(address):
                break
            forwarded = _parsed(hop)
            if forwarded is None:
                break
            address = forwarded
        return _key(address)

    def _is_trusted(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._trusted)


def _forwarded(scope: Scope) -> list[str]:
    lines = Headers(scope=scope).getlist("x-forwarded-for")
    return [hop.strip() for line in lines for hop in line.split(",")]


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _key(address: IPv4Address | IPv6Address) -> str:
    if isinstance(address, IPv6Address):
        return str(ip_network((address, _IPV6_PREFIX), strict=False))
    return str(address)
