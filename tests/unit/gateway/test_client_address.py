"""Which address counts as the client's."""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network

import pytest
from mesh_gateway.edge.client_address import ClientAddresses
from starlette.types import Scope

PROXIES = ("10.0.0.0/8", "fd00::/8")
EXACT = ("10.0.0.1/32", "10.0.0.2/32", "fd00::1/128")


def _networks(texts: Sequence[str]) -> list[IPv4Network | IPv6Network]:
    return [ip_network(text) for text in texts]


def _key(peer: str | None, forwarded: Sequence[str], trusted: Sequence[str] = (), *, hops: int = 0) -> str:
    headers = [(b"x-forwarded-for", line.encode("latin-1")) for line in forwarded]
    scope = {"type": "http", "headers": headers, "client": (peer, 1) if peer else None}
    return ClientAddresses(_networks(trusted), hops=hops).key_of(scope)


@pytest.mark.parametrize(
    ("peer", "forwarded", "key"),
    [
        ("203.0.113.9", (), "203.0.113.9"),
        ("203.0.113.9", ("198.51.100.1",), "203.0.113.9"),
        ("10.0.0.1", ("198.51.100.1",), "198.51.100.1"),
        ("10.0.0.1", ("6.6.6.6, 198.51.100.1",), "198.51.100.1"),
        ("10.0.0.1", ("6.6.6.6", "198.51.100.1"), "198.51.100.1"),
        ("10.0.0.1", ("nonsense",), "10.0.0.1"),
        ("10.0.0.1", ("198.51.100.1, nonsense",), "10.0.0.1"),
        ("10.0.0.1", ("10.0.0.7",), "10.0.0.7"),
        ("::ffff:10.0.0.1", ("198.51.100.1",), "198.51.100.1"),
        ("fd00::1", ("2001:db8:1:2:3:4:5:6",), "2001:db8:1:2::/64"),
        (None, (), "unknown"),
        ("unix", (), "unknown"),
    ],
)
def test_address_is_the_one_that_the_proxy_wrote(peer: str | None, forwarded: Sequence[str], key: str) -> None:
    assert _key(peer, forwarded, PROXIES) == key


@pytest.mark.parametrize("claimed", ["1.2.3.4", "1.2.3.4, 10.0.0.3", "10.0.0.3", "[::1]:80, , ::ffff:1.2.3.4"])
@pytest.mark.parametrize("is_joined", [True, False])
def test_client_inside_the_trusted_network_cannot_claim_another_address(claimed: str, *, is_joined: bool) -> None:
    """The proxy at 10.0.0.1 appends the address that it saw, in the same line or in one of its own."""
    forwarded = [f"{claimed}, 10.5.1.2"] if is_joined else [claimed, "10.5.1.2"]

    assert _key("10.0.0.1", forwarded, ["10.0.0.0/8"]) == "10.5.1.2"
    assert _key("10.0.0.1", forwarded, hops=1) == "10.5.1.2"
    assert _key("10.0.0.1", forwarded, ["10.0.0.0/8"], hops=1) == "10.5.1.2"


@pytest.mark.parametrize(
    ("hop", "key"),
    [
        ("198.51.0.10:44310", "198.51.0.10"),
        ("[2001:db8::1]:443", "2001:db8::/64"),
        ("[2001:db8::1]", "2001:db8::/64"),
        ("2001:db8::1", "2001:db8::/64"),
        ('"[2001:db8::1]:443"', "2001:db8::/64"),
        ("::ffff:198.51.0.10", "198.51.0.10"),
        ("[::ffff:198.51.0.10]:80", "198.51.0.10"),
        ("fe80::1%eth0", "fe80::/64"),
        ("[fe80::1%eth0]:443", "fe80::/64"),
        ("  198.51.0.10\t", "198.51.0.10"),
        ("198.51.0.10:", "10.0.0.1"),
        ("198.51.0.10:http", "10.0.0.1"),
        ("198.51.0.256", "10.0.0.1"),
        ("198.51.010.1", "10.0.0.1"),
        ("[2001:db8::1", "10.0.0.1"),
        ("2001:db8::1:44310x", "10.0.0.1"),
        ("unknown", "10.0.0.1"),
        ("_hidden", "10.0.0.1"),
        ("\xff\xfe", "10.0.0.1"),
        ("1" * 30_000, "10.0.0.1"),
    ],
)
def test_forms_that_proxies_write_are_read_and_the_rest_is_ignored(hop: str, key: str) -> None:
    assert _key("10.0.0.1", [hop], ["10.0.0.1/32"]) == key


@pytest.mark.parametrize(
    ("forwarded", "hops", "key"),
    [
        (("9.9.9.9, 198.51.100.1, 10.0.0.7",), 2, "198.51.100.1"),
        (("9.9.9.9", "198.51.100.1", "10.0.0.7"), 2, "198.51.100.1"),
        (("198.51.100.1",), 2, "198.51.100.1"),
        (("198.51.100.1, 10.0.0.7, nonsense",), 2, "10.0.0.1"),
        (("198.51.100.1, nonsense, 10.0.0.7",), 2, "10.0.0.7"),
        ((), 2, "10.0.0.1"),
        (("198.51.100.1",), 0, "10.0.0.1"),
    ],
)
def test_as_many_entries_are_believed_as_there_are_proxies(forwarded: Sequence[str], hops: int, key: str) -> None:
    assert _key("10.0.0.1", forwarded, hops=hops) == key


def test_peer_that_is_none_of_the_named_proxies_is_the_client_whatever_the_number() -> None:
    assert _key("203.0.113.9", ["198.51.100.1"], PROXIES, hops=1) == "203.0.113.9"


def test_chain_of_proxies_named_by_their_single_addresses_is_followed() -> None:
    assert _key("10.0.0.2", ["9.9.9.9, 198.51.100.1, 10.0.0.1"], EXACT) == "198.51.100.1"
    assert _key("10.0.0.2", ["9.9.9.9, 10.0.0.3, 10.0.0.1"], EXACT) == "10.0.0.3"
    assert _key("10.0.0.2", ["10.0.0.1"], EXACT) == "10.0.0.1"


@pytest.mark.parametrize(
    ("peer", "is_trusted"), [("10.1.2.3", True), ("::ffff:10.1.2.3", True), ("11.1.2.3", False), (None, False)]
)
def test_only_a_named_proxy_is_a_trusted_peer(peer: str | None, *, is_trusted: bool) -> None:
    scope: Scope = {"type": "http", "headers": [], "client": (peer, 1) if peer else None}

    assert ClientAddresses(_networks(PROXIES)).is_trusted_peer(scope) is is_trusted
    assert not ClientAddresses((), hops=1).is_trusted_peer(scope)
