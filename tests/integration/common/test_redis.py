"""Calls to Valkey that are cancelled or time out."""

import asyncio
import gc
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import uvloop
from mesh_common.errors import Unavailable
from mesh_common.redis import open_redis, redis_call
from mesh_dev.valkey import EmbeddedValkey
from pydantic import SecretStr
from redis.asyncio import Redis
from support.net import free_port


@pytest.fixture
async def redis(valkey: EmbeddedValkey) -> AsyncIterator[Redis]:
    async with open_redis(SecretStr(valkey.url)) as client:
        yield client


async def test_a_call_gives_its_reply(redis: Redis) -> None:
    await redis_call(redis.set("common:a", "1", ex=60))

    assert await redis_call(redis.get("common:a")) == b"1"


async def test_a_cancelled_call_does_not_leave_its_reply_to_the_next() -> None:
    async with _open_slow_server() as slow, open_redis(SecretStr(slow.url)) as client:
        call = asyncio.ensure_future(redis_call(client.get("first")))
        await asyncio.wait_for(slow.was_asked.wait(), 5)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        slow.go_on.set()

        following = [await redis_call(client.get(name)) for name in ("second", "third")]

    assert call.cancelled()
    assert following == [b"second", b"third"]


async def test_cancelled_calls_do_not_use_up_the_connections(redis: Redis) -> None:
    for _ in range(6):
        calls = [asyncio.ensure_future(redis_call(redis.blpop(["common:empty"], timeout=0.05))) for _ in range(10)]
        await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    await redis_call(redis.set("common:after", "1", ex=60))


def test_connection_that_ended_while_it_was_idle_is_replaced(valkey: EmbeddedValkey) -> None:
    """On uvloop, which services run on: it raises what redis-py takes for an error of the program."""

    async def replies() -> list[object]:
        async with open_redis(SecretStr(valkey.url)) as client:
            await redis_call(client.set("common:idle", "1", ex=60))
            got: list[object] = [await redis_call(client.get("common:idle"))]
            [connection] = client.connection_pool._available_connections
            assert connection._writer
            connection._writer.transport.abort()
            # As after a network that is back: the pool has not noticed.
            connection.can_read_destructive = _is_quiet
            return [*got, await redis_call(client.get("common:idle"))]

    # In a thread, away from the loop of the other tests.
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(lambda: uvloop.run(replies())).result(20) == [b"1", b"1"]


async def _is_quiet(*_: object) -> bool:
    return False


async def test_nobody_at_the_other_end_is_unavailable() -> None:
    async with open_redis(SecretStr(f"redis://127.0.0.1:{free_port()}/0")) as client:
        with pytest.raises(Unavailable) as raised:
            await redis_call(client.get("a"))

    assert raised.value.reason == "REDIS_UNAVAILABLE"


async def test_a_server_that_hangs_is_unavailable_soon_and_its_late_reply_is_dropped() -> None:
    async with _open_slow_server() as slow, open_redis(SecretStr(slow.url)) as client:
        async with asyncio.timeout(2):
            with pytest.raises(Unavailable):
                await redis_call(client.get("first"))
        slow.go_on.set()

        assert await redis_call(client.get("second")) == b"second"


async def test_a_redis_that_is_away_is_unavailable() -> None:
    async with open_redis(SecretStr(f"redis://127.0.0.1:{free_port()}/0")) as client:
        with pytest.raises(Unavailable):
            await redis_call(client.get("a"))


async def test_asyncio_does_not_report_a_call_that_fails_after_its_caller_has_left() -> None:
    unheard: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
    try:
        async with _open_slow_server() as slow, open_redis(SecretStr(slow.url)) as client:
            call = asyncio.ensure_future(redis_call(client.get("first")))
            await asyncio.wait_for(slow.was_asked.wait(), 5)
            call.cancel()
            await asyncio.wait([call])  # until the client's own timeout
            slow.go_on.set()
        del call
        gc.collect()
    finally:
        asyncio.get_running_loop().set_exception_handler(None)

    assert not unheard


@dataclass
class _SlowServer:
    """Answers GET with the key's name, but the very first GET only after `go_on`."""

    url: str = ""
    was_asked: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while command := await _read_command(reader):
                if command[0] != "GET":
                    writer.write(b"+OK\r\n")
                    continue
                if not self.was_asked.is_set():
                    self.was_asked.set()
                    await self.go_on.wait()
                writer.write(f"${len(command[1])}\r\n{command[1]}\r\n".encode())
        finally:
            writer.close()


async def _read_command(reader: asyncio.StreamReader) -> list[str]:
    """The words of the next command (a RESP array of bulk strings); empty at the end."""
    head = (await reader.readline()).decode().strip()
    words = []
    for _ in range(int(head[1:] or 0)):
        await reader.readline()
        words.append((await reader.readline()).decode().strip())
    return words


@asynccontextmanager
async def _open_slow_server() -> AsyncIterator[_SlowServer]:
    slow = _SlowServer()
    server = await asyncio.start_server(slow.serve, "127.0.0.1", 0)
    slow.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0?protocol=2"
    async with server:
        yield slow
        slow.go_on.set()


async def test_burst_beyond_the_pool_waits_for_connections(valkey: EmbeddedValkey) -> None:
    async with open_redis(SecretStr(valkey.url), max_connections=2) as client:
        outcomes = await asyncio.gather(*(redis_call(client.echo(str(number))) for number in range(20)))

    assert outcomes == [str(number).encode() for number in range(20)]
