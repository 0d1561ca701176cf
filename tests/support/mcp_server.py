"""An MCP server of the test's own, on loopback, in the official SDK."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import uvicorn
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.types import ToolAnnotations

READS, REPEATS = ToolAnnotations(read_only_hint=True), ToolAnnotations(idempotent_hint=True)


@dataclass
class McpShop:
    """Records each order with the `_meta` of its call. Clear `answers` to let orders wait."""

    listening: socket.socket
    """Bound from the beginning, so that nobody else takes the port; refuses connections until the server runs."""
    server: MCPServer
    orders: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    ordered: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listening.getsockname()[1]}/mcp"

    def as_setting(self, **more: object) -> str:
        """A value of AGENT_MCP_SERVERS with only this server."""
        return orjson.dumps([{"name": "shop", "url": self.url} | more]).decode()


def a_shop() -> McpShop:
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    shop = McpShop(listening, MCPServer("shop"))
    shop.answers.set()

    @shop.server.tool(annotations=READS)
    def price(item: str) -> str:
        """The price of an item."""
        return f"{item} costs 5"

    @shop.server.tool()
    async def order(item: str, context: Context) -> str:
        """Orders an item."""
        meta = context.request_context.meta
        shop.orders.append((item, dict(meta or {})))
        shop.ordered.set()
        await shop.answers.wait()
        return f"{item} ordered"

    @shop.server.tool()
    async def restock(context: Context) -> str:
        """Adds a tool while the server runs, and says so."""
        shop.server.add_tool(stock)
        await context.notify_tools_changed()
        return "restocked"

    @shop.server.tool(annotations=READS)
    def fail(text: str) -> str:
        """Fails."""
        raise ValueError(text)

    @shop.server.tool(annotations=READS)
    def flood() -> str:
        """Says more than anybody would read."""
        return "x" * 6_000_000

    @shop.server.tool(annotations=READS)
    def draw() -> Image:
        """Draws a picture."""
        return Image(data=b"\x89PNG" + bytes(3_000), format="png")

    return shop


def stock(item: str) -> str:
    """How much there is of an item."""
    return f"{item}: 7"


@asynccontextmanager
async def running_shop(shop: McpShop) -> AsyncIterator[McpShop]:
    app = shop.server.streamable_http_app()
    config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    serving = asyncio.ensure_future(server._serve(sockets=[shop.listening]))
    async with asyncio.timeout(10):
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
    try:
        yield shop
    finally:
        shop.answers.set()
        server.should_exit = True
        # The SDK's server may wait for streams that are open; a server that dies does not.
        done, _ = await asyncio.wait([serving], timeout=5)
        if not done:
            serving.cancel()
