"""The client's real address, as the key of rate limits.

Each proxy appends to `X-Forwarded-For` the address that connected to it. Entries are therefore read from the right, and
only as many as our own proxies wrote: everything further left is the client's claim.
"""

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from starlette.datastructures import Headers
from starlette.types import Scope

UNKNOWN: Final = "unknown"
# Providers assign a whole /64 to one customer, who can use any address in it.
_IPV6_PREFIX: Final = 64
# What proxies write: an address, `address:port` for IPv4, `[address]` or `[address]:port` for IPv6. A zone such as
# `%eth0` has a meaning only on the host that wrote it.
_HOP: Final = re.compile(
    r""""?(?:\[([0-9a-fA-F:.]+)(?:%[^\]]*)?\](?::\d{1,5})?|([0-9.]+)(?::\d{1,5})?|([0-9a-fA-F:.]+)(?:%[^"]*)?)"?"""
)

type _Address = IPv4Address | IPv6Address


class ClientAddresses:
    def __init__(self, trusted_proxies: Sequence[IPv4Network | IPv6Network], *, hops: int = 0) -> None:
        """`hops` proxies are in front of the gateway. With `trusted_proxies`, the last of them has one of these
        addresses; other peers are clients, whatever they send.

        Without `hops`, the last proxy is believed about its peer, and that peer about the next one if its single
        address is in the list. A network of several addresses is not enough for that, because clients may be in it.
        """
        self._trusted = tuple(trusted_proxies)
        self._exact = frozenset(network.network_address for network in trusted_proxies if network.num_addresses == 1)
        self._hops = hops

    def key_of(self, scope: Scope) -> str:
        """The address, or the /64 of an IPv6 address."""
        peer = _peer(scope)
        if peer is None:
            return UNKNOWN
        if not self._is_proxy(peer):
            return _key(peer)
        return _key(self._client(peer, _forwarded(scope)))

    def is_trusted_peer(self, scope: Scope) -> bool:
        """Whether the connection comes from one of the named proxies."""
        peer = _peer(scope)
        return peer is not None and any(peer in network for network in self._trusted)

    def _is_proxy(self, peer: _Address) -> bool:
        return any(peer in network for network in self._trusted) if self._trusted else self._hops > 0

    def _client(self, peer: _Address, hops: Sequence[str]) -> _Address:
        """The address that the outermost of our proxies saw; that of a nearer one if it wrote no address."""
        client = peer
        for number, hop in enumerate(reversed(hops), start=1):
            address = _parsed(hop)
            if address is None:
                return client
            client = address
            if number >= self._hops and (self._hops or client not in self._exact):
                return client
        return client


def _peer(scope: Scope) -> _Address | None:
    client = scope.get("client")
    return _parsed(client[0]) if client else None


def _forwarded(scope: Scope) -> list[str]:
    lines = Headers(scope=scope).getlist("x-forwarded-for")
    hops = [hop.strip() for line in lines for hop in line.split(",")]
    # RFC 9110, 5.6.1: empty elements of a list do not count.
    return [hop for hop in hops if hop]


def _parsed(text: str) -> _Address | None:
    match = _HOP.fullmatch(text)
    if match is None:
        return None
    try:
        address = ip_address(next(group for group in match.groups() if group))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _key(address: _Address) -> str:
    if isinstance(address, IPv6Address):
        return str(ip_network((address, _IPV6_PREFIX), strict=False))
    return str(address)
