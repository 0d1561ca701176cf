"""Opens connections only to addresses that the policy accepts.

The check is in the socket factory, which aiohttp calls with the address that it is about to dial: after resolution,
and for literal addresses too. So no second resolution can differ from the one that was checked (DNS rebinding), and
no spelling of a host can be read one way by the check and another way by the resolver.
"""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver

from mesh_agent.tools.web.places import Places

type AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]
type MakeSocket = Callable[[int, int, int], socket.socket]

_CONNECT_TIMEOUT_S: Final = 5.0
# Of headers; bodies are bounded where they are read.
_MAX_HEADER_BYTES: Final = 16_384


class AddressRefusedError(OSError):
    """The policy refuses the address. An OSError, so that the next address of the host is tried."""


@dataclass(slots=True)
class GuardedSockets:
    """A socket factory for the connections to one host. `has_refused` becomes true with the first refused address."""

    places: Places
    host: str
    make: MakeSocket = socket.socket
    has_refused: bool = field(default=False, init=False)

    def __call__(self, info: AddressInfo) -> socket.socket:
        family, kind, protocol, _, address = info
        if not self.places.may_dial(self.host, str(address[0])):
            self.has_refused = True
            raise AddressRefusedError("the address is refused")
        return self.make(family, kind, protocol)


@dataclass(frozen=True, slots=True)
class Dialer:
    """`resolver` and `make` replace the system's in tests."""

    places: Places
    resolver: AbstractResolver | None = None
    make: MakeSocket = socket.socket

    @asynccontextmanager
    async def session(self, host: str) -> AsyncIterator[tuple[aiohttp.ClientSession, GuardedSockets]]:
        """A session for one request: nothing is kept that another user's request could use or reveal."""
        sockets = GuardedSockets(self.places, host, self.make)
        connector = aiohttp.TCPConnector(
            limit=1, force_close=True, use_dns_cache=False, resolver=self.resolver, socket_factory=sockets
        )
        async with aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            # Neither proxies nor credentials of the environment.
            trust_env=False,
            # Decompression is bounded where the body is read.
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S),
            max_line_size=_MAX_HEADER_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
        ) as session:
            yield session, sockets
