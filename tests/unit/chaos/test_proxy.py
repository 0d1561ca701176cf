"""The proxy between a client and an echo, both on real sockets."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from chaos.proxy import FaultProxy, open_proxy

LOOPBACK = "127.0.0.1"
# Long enough for loopback, short enough to wait for in vain.
SOON_S = 0.2


@dataclass(slots=True)
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, text: bytes) -> None:
        self.writer.write(text)
        await self.writer.drain()

    async def hear(self, count: int, within_s: float = 5.0) -> bytes:
        async with asyncio.timeout(within_s):
            return await self.reader.readexactly(count)

    async def hears_nothing(self) -> bool:
        try:
            await self.hear(1, SOON_S)
        except TimeoutError:
            return True
        return False


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Greets once the client will say no more."""
    try:
        while chunk := await reader.read(4096):
            writer.write(chunk)
            await writer.drain()
        writer.write(b"bye")
        await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


@pytest.fixture
async def proxy() -> AsyncIterator[FaultProxy]:
    server = await asyncio.start_server(_echo, LOOPBACK, 0)
    async with server, open_proxy("echo", server.sockets[0].getsockname()[1]) as opened:
        yield opened


@asynccontextmanager
async def connected(proxy: FaultProxy) -> AsyncIterator[Client]:
    """A client whose connection goes all the way through: it has heard the echo once."""
    reader, writer = await asyncio.open_connection(LOOPBACK, proxy.port)
    client = Client(reader, writer)
    try:
        await client.say(b"hello")
        assert await client.hear(5) == b"hello"
        yield client
    finally:
        writer.transport.abort()


async def test_bytes_pass_both_ways_and_the_end_as_well(proxy: FaultProxy) -> None:
    async with connected(proxy) as client:
        client.writer.write_eof()

        assert await client.hear(3) == b"bye"
        assert await client.reader.read() == b""


async def test_reset_breaks_connections_off(proxy: FaultProxy) -> None:
    async with connected(proxy) as client:
        proxy.reset()

        with pytest.raises(ConnectionResetError):
            await client.hear(1)


async def test_new_connections_are_reset_until_clean(proxy: FaultProxy) -> None:
    proxy.resets_new = True
    reader, writer = await asyncio.open_connection(LOOPBACK, proxy.port)
    with pytest.raises(ConnectionResetError):
        await Client(reader, writer).hear(1)
    writer.transport.abort()

    proxy.clean()

    async with connected(proxy):
        pass


async def test_partition_swallows_both_ways_and_delivers_after_it(proxy: FaultProxy) -> None:
    async with connected(proxy) as client:
        proxy.partition()
        await client.say(b"more")

        assert await client.hears_nothing()

        proxy.clean()
        assert await client.hear(4) == b"more"


async def test_partition_one_way_lets_the_other_way_pass() -> None:
    received = asyncio.Event()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(4)
        received.set()
        writer.write(b"heard")
        await writer.drain()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(take, LOOPBACK, 0)
    async with server, open_proxy("one way", server.sockets[0].getsockname()[1]) as one_way:
        reader, writer = await asyncio.open_connection(LOOPBACK, one_way.port)
        client = Client(reader, writer)
        one_way.partition("client")

        await client.say(b"more")

        async with asyncio.timeout(5):
            await received.wait()
        assert await client.hears_nothing()
        one_way.clean()
        assert await client.hear(5) == b"heard"
        writer.transport.abort()


async def test_connections_made_in_a_partition_come_through_after_it(proxy: FaultProxy) -> None:
    proxy.partition("server")
    reader, writer = await asyncio.open_connection(LOOPBACK, proxy.port)
    client = Client(reader, writer)
    await client.say(b"hello")
    assert await client.hears_nothing()

    proxy.clean()

    assert await client.hear(5) == b"hello"
    writer.transport.abort()


async def test_delay_holds_each_direction_back(proxy: FaultProxy) -> None:
    async with connected(proxy) as client:
        proxy.delay_s = 0.1
        started_s = time.monotonic()

        await client.say(b"more")
        await client.hear(4)

        assert time.monotonic() - started_s >= 0.2


async def test_throttle_bounds_the_bytes_a_second(proxy: FaultProxy) -> None:
    async with connected(proxy) as client:
        proxy.bytes_per_s = 10_000
        started_s = time.monotonic()

        await client.say(b"x" * 2_000)
        await client.hear(2_000)

        assert time.monotonic() - started_s >= 0.2


async def test_half_close_ends_one_direction_and_keeps_the_other(proxy: FaultProxy) -> None:
    async with connected(proxy) as client:
        proxy.half_close("client")

        assert await client.reader.read() == b""
        assert proxy.open_connections == 1


async def test_a_target_that_is_down_is_a_reset() -> None:
    async with open_proxy("nowhere", 1) as nowhere:
        reader, writer = await asyncio.open_connection(LOOPBACK, nowhere.port)

        with pytest.raises(ConnectionResetError):
            await Client(reader, writer).hear(1)
        writer.transport.abort()
