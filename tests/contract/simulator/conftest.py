import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest
from simulator.client import SimulatorAdmin
from simulator.server import open_simulator
from simulator.settings import SimulatorSettings

OpenSimulator = Callable[..., AbstractAsyncContextManager[str]]


@pytest.fixture
def open_with() -> OpenSimulator:
    """Opens a simulator with the given settings on a free port."""

    def open_one(**settings: Any) -> AbstractAsyncContextManager[str]:
        return open_simulator(SimulatorSettings(port=0, **settings))

    return open_one


@pytest.fixture
async def base_url(open_with: OpenSimulator) -> AsyncIterator[str]:
    async with open_with(tokens=10, seed=1) as url:
        yield url


@pytest.fixture
async def admin(base_url: str) -> AsyncIterator[SimulatorAdmin]:
    async with SimulatorAdmin(base_url) as client:
        yield client


@pytest.fixture
async def http(base_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=base_url, trust_env=False) as client:
        yield client


class RawStream:
    """A streamed chat, read byte by byte by a client that may disconnect at any time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, base_url: str, message: str, key: str | None = None) -> "RawStream":
        host, _, port = base_url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        body = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": message}]})
        key_line = f"x-sim-key: {key}\r\n" if key else ""
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: sim\r\n{key_line}content-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body.encode())
        return cls(reader, writer)

    async def read_tokens(self, count: int) -> None:
        """Reads until `count` more content chunks have arrived."""
        for _ in range(count):
            await self._reader.readuntil(b'"delta":{"content":"')

    async def read_to_end(self) -> bytes:
        return await self._reader.read()

    async def leave(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


async def stats_when(admin: SimulatorAdmin, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first stats for which `holds` is true; the test's timeout bounds the wait."""
    while not holds(stats := await admin.stats()):
        pass
    return stats


@pytest.fixture
def raw_stream() -> type[RawStream]:
    return RawStream


@pytest.fixture
def wait_for_stats() -> Callable[..., Any]:
    return stats_when
