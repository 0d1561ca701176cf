"""An HTTP server with one tool. It records its calls: the external effect of the tool."""

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
    """Clear `answers` to record calls without answering; `status` and `body` are the answer."""

    url: str
    calls: list[Call] = field(default_factory=list)
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    called: asyncio.Event = field(default_factory=asyncio.Event)
    status: int = 200
    body: str = "marked"
    pieces: tuple[str, ...] = ()
    """Sent instead of `body`: one after the other, each in its own segment."""
    breaks_off: bool = False
    """Closes the connection before the end of the body."""

    def as_setting(self, effect: str, name: str = "mark", **more: object) -> str:
        """A value of AGENT_HTTP_TOOLS with only this tool."""
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
            # Longer than a sender waits to fill one segment.
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
