"""An HTTP server with one tool, which remembers its calls: the mark that a tool leaves outside."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

from support.net import free_port


@dataclass(frozen=True)
class Call:
    key: str
    headers: Mapping[str, str]
    arguments: Mapping[str, Any]


@dataclass
class ToolServer:
    """Clear `answers` to leave callers without an answer after their mark; `status` and `body` are what they get."""

    url: str
    calls: list[Call] = field(default_factory=list)
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    called: asyncio.Event = field(default_factory=asyncio.Event)
    status: int = 200
    body: str = "marked"
    pieces: tuple[str, ...] = ()
    """In place of `body`: sent one after the other, each by itself."""
    breaks_off: bool = False
    """The connection ends before the body does."""

    def as_setting(self, effect: str, name: str = "mark", **more: object) -> str:
        """AGENT_HTTP_TOOLS with this tool alone."""
        parameters = {"type": "object", "properties": {"token": {"type": "string"}}}
        entry = {"name": name, "description": "Leaves a mark.", "url": self.url, "parameters": parameters}
        return orjson.dumps([entry | {"effect": effect} | more]).decode()

    async def _take(self, request: web.Request) -> web.StreamResponse:
        # Not orjson, which reads neither large integers nor half of a surrogate pair.
        arguments = json.loads(await request.read())
        self.calls.append(Call(request.headers["Idempotency-Key"], request.headers, arguments))
        self.called.set()
        await self.answers.wait()
        if self.pieces:
            return await self._in_pieces(request)
        return web.Response(status=self.status, text=self.body)

    async def _in_pieces(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=self.status)
        await response.prepare(request)
        for piece in self.pieces:
            await response.write(piece.encode())
            # Beyond what a sender gathers into one segment.
            await asyncio.sleep(0.05)
        if self.breaks_off and request.transport is not None:
            request.transport.abort()
        return response


@asynccontextmanager
async def running_tool_server() -> AsyncIterator[ToolServer]:
    port = free_port()
    server = ToolServer(f"http://127.0.0.1:{port}/mark")
    server.answers.set()
    application = web.Application()
    application.router.add_post("/mark", server._take)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield server
    finally:
        server.answers.set()
        await runner.cleanup()
