"""A web server on a loopback address of its own. It records its requests and the connections it gets."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from support.net import free_port


@dataclass(frozen=True)
class Page:
    body: bytes | str
    content_type: str | None = "text/html; charset=utf-8"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class WebServer:
    host: str
    port: int
    pages: dict[str, Page] = field(default_factory=dict)
    """By path; other paths are not found. A path in `hanging` gets no answer."""
    hanging: set[str] = field(default_factory=set)
    requests: list[web.BaseRequest] = field(default_factory=list)
    requested: asyncio.Event = field(default_factory=asyncio.Event)
    _released: asyncio.Event = field(default_factory=asyncio.Event)

    def url(self, path: str) -> str:
        return f"http://{self.host}:{self.port}{path}"

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(request)
        self.requested.set()
        if request.path in self.hanging:
            await self._released.wait()
        page = self.pages.get(request.path, Page("not found", status=404))
        body = page.body.encode() if isinstance(page.body, str) else page.body
        headers = dict(page.headers) | ({"Content-Type": page.content_type} if page.content_type else {})
        return web.Response(status=page.status, body=body, headers=headers)

    def release(self) -> None:
        self._released.set()


@asynccontextmanager
async def running_web_server(host: str = "127.0.0.1") -> AsyncIterator[WebServer]:
    server = WebServer(host, free_port())
    runner = web.ServerRunner(web.Server(server.answer, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, host, server.port).start()
    try:
        yield server
    finally:
        server.release()
        await runner.cleanup()
