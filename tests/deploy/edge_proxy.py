"""The nginx of deploy/compose in front of a fake gateway, both on loopback."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
from support.certificates import Authority, new_authority
from support.net import free_port

from deploy.programs import ROOT

CONFIGURATION: Final = ROOT / "deploy/compose/nginx/nginx.conf"
_PATIENCE_S: Final = 20
# Another process may take a free port before nginx binds it.
_TRIES: Final = 3


class PortTakenError(Exception):
    """nginx found a port in use."""


@dataclass(eq=False)
class PlayedGateway:
    """Answers every request with 200. Streams have two parts, of which the second waits until a test releases it."""

    port: int = field(default_factory=free_port)
    heads: list[str] = field(default_factory=list)
    """Request line and headers of each request, as they arrived."""
    connections: int = 0
    second_part: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        try:
            yield
        finally:
            self.second_part.set()
            server.close()
            server.close_clients()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await _read_head(reader):
                self.heads.append(head)
                await self._answer(head, writer)
        finally:
            writer.close()

    async def _answer(self, head: str, writer: asyncio.StreamWriter) -> None:
        if "/stream" not in head and "/events" not in head:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
            return
        # Without X-Accel-Buffering, so that only the configuration is tested.
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(_chunk("event: first\n\n"))
        await writer.drain()
        await self.second_part.wait()
        writer.write(_chunk("event: second\n\n") + b"0\r\n\r\n")


@dataclass(frozen=True, kw_only=True)
class Edge:
    gateway: PlayedGateway
    authority: Authority
    https_port: int
    http_port: int
    access_log: Path

    def trust(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.authority.pem.decode())
        # The certificates of tests lack the authority key identifier.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=f"https://127.0.0.1:{self.https_port}", verify=self.trust(), timeout=_PATIENCE_S
        )


@asynccontextmanager
async def open_edge(
    nginx: str, folder: Path, change: Callable[[str], str] = lambda configuration: configuration
) -> AsyncIterator[Edge]:
    """nginx with the committed configuration except for a container's addresses and paths; `change` edits it."""
    authority = new_authority()
    authority.issue(folder / "tls", "127.0.0.1")
    path = folder / "nginx.conf"
    async with AsyncExitStack() as stack:
        for tries_left in reversed(range(_TRIES)):
            edge = Edge(
                gateway=PlayedGateway(),
                authority=authority,
                https_port=free_port(),
                http_port=free_port(),
                access_log=folder / "access.log",
            )
            path.write_text(change(_on_loopback(edge, folder)))
            try:
                await stack.enter_async_context(_running(nginx, path, edge.access_log))
            except PortTakenError:
                if not tries_left:
                    raise
            else:
                break
        await stack.enter_async_context(edge.gateway.serving())
        yield edge


def _on_loopback(edge: Edge, folder: Path) -> str:
    text = CONFIGURATION.read_text()
    moves = {
        " /tmp/": f" {folder}/",
        "listen 8443 ": f"listen 127.0.0.1:{edge.https_port} ",
        "listen 8080;": f"listen 127.0.0.1:{edge.http_port};",
        "listen 127.0.0.1:8081;": f"listen 127.0.0.1:{free_port()};",
        "server gateway:8000 ": f"server 127.0.0.1:{edge.gateway.port} ",
        "/etc/nginx/tls/": f"{folder}/tls/",
        # One worker, so that the connections that it keeps can be counted.
        "worker_processes auto;": "worker_processes 1;",
        # At this level nginx logs when it is ready.
        "error_log /dev/stderr warn;": "error_log /dev/stderr notice;",
    }
    for before, after in moves.items():
        assert before in text, f"{CONFIGURATION} has no '{before}'"
        text = text.replace(before, after)
    return text


@asynccontextmanager
async def _running(nginx: str, configuration: Path, access_log: Path) -> AsyncIterator[None]:
    with access_log.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            nginx,
            *("-c", str(configuration), "-g", "daemon off; user root;"),
            stdout=log,
            stderr=asyncio.subprocess.PIPE,
        )
    assert process.stderr is not None
    try:
        await asyncio.wait_for(_until_ready(process.stderr), _PATIENCE_S)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def _until_ready(stderr: asyncio.StreamReader) -> None:
    said = b""
    while b"start worker process " not in said:
        line = await stderr.readline()
        if not line and b"Address already in use" in said:
            raise PortTakenError(said.decode())
        assert line, f"nginx ended: {said.decode()}"
        said += line


async def _read_head(reader: asyncio.StreamReader) -> str:
    """Empty if the connection is closed. Requests of tests have no body or a Content-Length."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return ""
    length = next((line for line in head.splitlines() if line.lower().startswith("content-length:")), ":0")
    await reader.readexactly(int(length.partition(":")[2]))
    return head


def _chunk(text: str) -> bytes:
    return f"{len(text):x}\r\n{text}\r\n".encode()
