"""The server behind the test tools: it keeps a mark for every call that reaches it."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web
from mesh_dev.wait import LOOPBACK

from chaos.history import Mark

TOOLS: Mapping[str, str] = {"mark_once": "once", "mark_idempotent": "idempotent"}


@dataclass(slots=True)
class MarkServer:
    """A mark is made before the answer, which `pause_ms` of the arguments delays: so kills fall between the two."""

    port: int = 0
    marks: list[Mark] = field(default_factory=list)

    def agent_setting(self) -> str:
        """The value of AGENT_HTTP_TOOLS."""
        return orjson.dumps([self._tool(name, effect) for name, effect in TOOLS.items()]).decode()

    def take(self) -> list[Mark]:
        """The marks since the last time."""
        taken, self.marks = self.marks, []
        return taken

    async def answer(self, request: web.Request) -> web.Response:
        arguments: dict[str, Any] = await request.json()
        pause_s = float(arguments.get("pause_ms", 0)) / 2_000
        await asyncio.sleep(pause_s)
        key = request.headers.get("Idempotency-Key", "")
        token = str(arguments["token"])
        self.marks.append(Mark(tool=request.match_info["tool"], key=key, token=token, at_s=time.monotonic()))
        await asyncio.sleep(pause_s)
        return web.Response(text=f"marked {token}")

    def _tool(self, name: str, effect: str) -> dict[str, Any]:
        properties = {"token": {"type": "string"}, "pause_ms": {"type": "integer"}}
        return {
            "name": name,
            "description": "Leaves a mark.",
            "url": f"http://{LOOPBACK}:{self.port}/{name}",
            "effect": effect,
            "parameters": {"type": "object", "properties": properties, "required": ["token"]},
        }


@asynccontextmanager
async def open_marks() -> AsyncIterator[MarkServer]:
    server = MarkServer()
    app = web.Application()
    app.router.add_post("/{tool}", server.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, LOOPBACK, 0)
        await site.start()
        server.port = runner.addresses[0][1]
        yield server
    finally:
        await runner.cleanup()
