"""Decides which IP addresses may be dialled for a model. Pure: no name is resolved and nothing is opened here.

The tables follow the IANA registries of special-purpose addresses. `ipaddress.is_global` is not used: it is true for
NAT64 addresses that lead to a private network, and it changes with the release of Python.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

type Address = IPv4Address | IPv6Address
type Network = IPv4Network | IPv6Network


class Verdict(StrEnum):
    """`PRIVATE` may be opened by the name of a host; `RESERVED` only by its network; `DENIED` by nothing."""

    PUBLIC = "public"
    PRIVATE = "private"
    RESERVED = "reserved"
    DENIED = "denied"


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ip_network(text) for text in texts)


_PRIVATE: Final = _networks("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
_RESERVED: Final = _networks(
    # Metadata services in networks that are otherwise private or public: Alibaba, Azure, AWS, Google Cloud.
    "100.100.100.200/32",
    "168.63.129.16/32",
    "fd00:ec2::/32",
    "fd20:ce::/32",
    "0.0.0.0/8",  # this network
    "127.0.0.0/8",  # loopback
    "169.254.0.0/16",  # link-local, with the metadata services of most clouds
    "192.0.0.0/24",  # IETF protocol assignments, with Oracle's metadata service
    "192.0.2.0/24",  # documentation
    "192.88.99.0/24",  # 6to4 relays, deprecated
    "198.18.0.0/15",  # benchmarking
    "198.51.100.0/24",  # documentation
    "203.0.113.0/24",  # documentation
    "224.0.0.0/4",  # multicast
    "240.0.0.0/4",  # reserved, and broadcast
    "2001::/23",  # IETF protocol assignments: Teredo, benchmarking, ORCHID
    "2001:db8::/32",  # documentation
    "2002::/16",  # 6to4, deprecated
    "3fff::/20",  # documentation
)
# The only IPv6 addresses that are routed on the internet (RFC 4291, section 2.4).
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_NAT64: Final = IPv6Network("64:ff9b::/96")
# The prefix that RFC 8215 leaves to each network: where such an address leads is not known here.
_LOCAL_NAT64: Final = IPv6Network("64:ff9b:1::/48")
_COMPATIBLE: Final = IPv6Network("::/96")
_TRANSLATED: Final = IPv6Network("::ffff:0:0:0/96")
_ISATAP: Final = frozenset({0x00005EFE, 0x02005EFE})


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """`deny` wins over `allow`. Both apply to an IPv4 address in every IPv6 form of it."""

    allow: Sequence[Network] = ()
    deny: Sequence[Network] = ()

    def verdict(self, text: str) -> Verdict:
        """The verdict on one address as a resolver returns it. `RESERVED` for a text that is no address."""
        try:
            address = ip_address(text)
        except ValueError:
            return Verdict.RESERVED
        if getattr(address, "scope_id", None):
            return Verdict.RESERVED
        forms = (address, *embedded(address))
        if _is_in(forms, self.deny):
            return Verdict.DENIED
        return Verdict.PUBLIC if _is_allowed(forms, self.allow) else _worst(forms)

    def allows(self, text: str) -> bool:
        """Whether the allow list names the address."""
        address = ip_address(text)
        return _is_allowed((address, *embedded(address)), self.allow)


def embedded(address: Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses to which an IPv6 address may lead."""
    if isinstance(address, IPv4Address):
        return
    low = IPv4Address(int(address) & 0xFFFFFFFF)
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if any(address in network for network in (_NAT64, _COMPATIBLE, _TRANSLATED)):
        yield low
    if address in _LOCAL_NAT64:
        yield from (low, _in_48(address))
    if (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
        yield low


def _in_48(address: IPv6Address) -> IPv4Address:
    """RFC 6052, section 2.2: after a prefix of 48 bits, the byte of bits 64 to 71 is skipped."""
    packed = address.packed
    return IPv4Address(packed[6:8] + packed[9:11])


def _is_allowed(forms: Sequence[Address], allow: Sequence[Network]) -> bool:
    """An allowed IPv4 address is allowed in the forms that are only other notations of it."""
    return _is_in(forms if _is_notation(forms[0]) else forms[:1], allow)


def _is_notation(address: Address) -> bool:
    return isinstance(address, IPv6Address) and (address.ipv4_mapped is not None or address in _NAT64)


def _worst(forms: Sequence[Address]) -> Verdict:
    verdicts = {_alone(form) for form in forms}
    return next(verdict for verdict in (Verdict.RESERVED, Verdict.PRIVATE, Verdict.PUBLIC) if verdict in verdicts)


def _alone(address: Address) -> Verdict:
    if _is_in((address,), _RESERVED):
        return Verdict.RESERVED
    if _is_in((address,), _PRIVATE):
        return Verdict.PRIVATE
    if isinstance(address, IPv4Address) or address in _GLOBAL_UNICAST or _is_notation(address):
        return Verdict.PUBLIC
    return Verdict.RESERVED


def _is_in(addresses: Sequence[Address], networks: Sequence[Network]) -> bool:
    return any(address in network for address in addresses for network in networks)
