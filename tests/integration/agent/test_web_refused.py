"""The refused URLs of tests/cases/web-refused.jsonl with real sockets, and a server that must not be reached."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fakes.agent.dialing import FakeResolver
from mesh_agent.tools.web.dialing import Dialer
from mesh_agent.tools.web.download import download
from mesh_agent.tools.web.errors import FetchError
from mesh_agent.tools.web.places import Places, places

CASES = [json.loads(line) for line in Path("tests/cases/web-refused.jsonl").read_text("utf-8").splitlines()]
# Forms that are complete without a port, and lead to the loopback network once every name does.
WITHOUT_PORT = re.compile(r"^(https?://(?:[^/:?#@\\\[\]]+|\[[^\]]+\]))/$")
LOOPBACK = {"*": [["127.0.0.1"]]}


@dataclass
class CountingServer:
    port: int = 0
    connections: int = 0

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nsecret")
        await writer.drain()
        writer.close()


@pytest.fixture
async def server() -> AsyncIterator[CountingServer]:
    counting = CountingServer()
    listening = await asyncio.start_server(counting.accept, "127.0.0.1", 0)
    counting.port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield counting


def urls_at(port: int) -> list[str]:
    found = [WITHOUT_PORT.match(case["url"]) for case in CASES]
    return [f"{url[1]}:{port}/" for url in found if url]


async def bodies(urls: list[str], allowed: Places) -> list[bytes]:
    """The bodies of the pages that could be read."""
    read = []
    for url in urls:
        try:
            read.append((await download(url, Dialer(allowed, FakeResolver(LOOPBACK)), 1_000)).body)
        except FetchError:
            continue
    return read


async def test_no_form_of_a_private_address_reaches_a_server(server: CountingServer) -> None:
    urls = urls_at(server.port)

    assert len(urls) > 200
    assert await bodies(urls, places((), (), {server.port})) == []
    assert server.connections == 0


async def test_the_same_forms_reach_it_if_its_network_is_allowed(server: CountingServer) -> None:
    """So that the test above fails if the check does."""
    # An allowed network is allowed in NAT64 as well, which would leave this machine.
    loopback = [url for url in urls_at(server.port) if url.startswith("http://") and "64:ff9b" not in url]

    reached = await bodies(loopback, places(["127.0.0.1/32"], (), {server.port}))

    assert set(reached) == {b"secret"}
    assert server.connections == len(reached) > 40
