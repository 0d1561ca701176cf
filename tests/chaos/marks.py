"""The server of the test tools. It stores a mark for every call that reaches it.

`python -m chaos.marks --host 0.0.0.0 --port 8091` runs it alone, for a mesh on other machines. Nothing of the mesh is
imported here, because its image does not contain the mesh.
"""

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web

from chaos.history import Mark

TOOLS: Mapping[str, str] = {"mark_once": "once", "mark_idempotent": "idempotent"}
LOOPBACK = "127.0.0.1"
PORT = 8091


@dataclass(slots=True)
class MarkServer:
    """Stores a mark, then delays the answer by the argument `pause_ms`, so that kills can come between the two."""

    port: int = 0
    marks: list[Mark] = field(default_factory=list)

    def agent_setting(self) -> str:
        return tools_setting(f"http://{LOOPBACK}:{self.port}")

    def take(self) -> list[Mark]:
        """Returns and removes the marks since the last call."""
        taken, self.marks = self.marks, []
        return taken

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/healthz", self._health),
            web.get("/marks", self._list),
            web.delete("/marks", self._forget),
            web.post("/{tool}", self._mark),
        ]

    async def _mark(self, request: web.Request) -> web.Response:
        arguments: dict[str, Any] = await request.json()
        pause_s = float(arguments.get("pause_ms", 0)) / 2_000
        await asyncio.sleep(pause_s)
        key = request.headers.get("Idempotency-Key", "")
        token = str(arguments["token"])
        self.marks.append(Mark(tool=request.match_info["tool"], key=key, token=token, at_s=time.monotonic()))
        await asyncio.sleep(pause_s)
        return web.Response(text=f"marked {token}")

    async def _list(self, _: web.Request) -> web.Response:
        """`at_s` is this machine's monotonic clock, which other machines do not share; `wall_s` is the wall time."""
        wall_ahead_s = time.time() - time.monotonic()
        listed = [{**asdict(mark), "wall_s": mark.at_s + wall_ahead_s} for mark in self.marks]
        return web.Response(body=orjson.dumps(listed), content_type="application/json")

    async def _forget(self, _: web.Request) -> web.Response:
        self.marks.clear()
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(text="ok")


def tools_setting(base_url: str) -> str:
    """The value of AGENT_HTTP_TOOLS for a server at this URL."""
    return orjson.dumps([_tool(base_url, name, effect) for name, effect in TOOLS.items()]).decode()


def _tool(base_url: str, name: str, effect: str) -> dict[str, Any]:
    properties = {"token": {"type": "string"}, "pause_ms": {"type": "integer"}}
    return {
        "name": name,
        "description": "Leaves a mark.",
        "url": f"{base_url}/{name}",
        "effect": effect,
        "parameters": {"type": "object", "properties": properties, "required": ["token"]},
    }


@asynccontextmanager
async def open_marks(host: str = LOOPBACK, port: int = 0) -> AsyncIterator[MarkServer]:
    server = MarkServer()
    app = web.Application()
    app.router.add_routes(server.routes())
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        server.port = runner.addresses[0][1]
        yield server
    finally:
        await runner.cleanup()


async def _serve(host: str, port: int) -> None:
    stop = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop.set)
    async with open_marks(host, port) as server:
        sys.stdout.write(f"marks ready on http://{host}:{server.port}\n")
        sys.stdout.flush()
        await stop.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m chaos.marks")
    parser.add_argument("--host", default=LOOPBACK)
    parser.add_argument("--port", type=int, default=PORT)
    options = parser.parse_args()
    asyncio.run(_serve(options.host, options.port))


if __name__ == "__main__":
    main()
