"""Which address counts as the client's."""

from ipaddress import IPv4Network, IPv6Network

import pytest
from mesh_gateway.edge.client_address import ClientAddresses

PROXIES = (IPv4Network("10.0.0.0/8"), IPv6Network("fd00::/8"))


def _key(peer: str | None, *forwarded: str) -> str:
    headers = [(b"x-forwarded-for", line.encode()) for line in forwarded]
    scope = {"type": "http", "headers": headers, "client": (peer, 1) if peer else None}
    return ClientAddresses(PROXIES).key_of(scope)


@pytest.mark.parametrize(
    ("peer", "forwarded", "key"),
    [
        ("203.0.113.9", (), "203.0.113.9"),
        ("203.0.113.9", ("198.51.100.1",), "203.0.113.9"),
        ("10.0.0.1", ("198.51.100.1",), "198.51.100.1"),
        ("10.0.0.1", ("6.6.6.6, 198.51.100.1",), "198.51.100.1"),
        ("10.0.0.1", ("6.6.6.6", "198.51.100.1, 10.0.0.2"), "198.51.100.1"),
        ("10.0.0.1", ("nonsense",), "10.0.0.1"),
        ("10.0.0.1", ("10.0.0.7",), "10.0.0.7"),
        ("::ffff:10.0.0.1", ("198.51.100.1",), "198.51.100.1"),
        ("fd00::1", ("2001:db8:1:2:3:4:5:6",), "2001:db8:1:2::/64"),
        (None, (), "unknown"),
        ("unix", (), "unknown"),
    ],
)
def test_address_is_the_last_one_that_no_trusted_proxy_has(
    peer: str | None, forwarded: tuple[str, ...], key: str
) -> None:
    assert _key(peer, *forwarded) == key
