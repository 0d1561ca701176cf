"""Keeps the tools of one MCP server up to date in the registry.

A server that is down takes its tools away, not the run.
"""

import asyncio
from contextlib import suppress
from typing import Final

import structlog
from mcp import Client
from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost
from mcp.shared.exceptions import MCPError
from mcp.types import Tool

from mesh_agent.metrics import MCP_REFUSED_TOOLS, MCP_SERVER_UP
from mesh_agent.tools.mcp.connection import McpServer, connected, first_of
from mesh_agent.tools.mcp.listed import listed
from mesh_agent.tools.refused import Refused
from mesh_agent.tools.registry import ToolRegistry

log = structlog.get_logger()

_READ_S: Final = 10.0
# For servers that tell no changes.
_REFRESH_S: Final = 60.0
_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 60.0
_MAX_PAGES: Final = 20


class McpSource:
    """`run` until cancelled, in one task: the session's cancel scopes belong to the task that enters them."""

    def __init__(self, server: McpServer, registry: ToolRegistry) -> None:
        self._server = server
        self._settings = settings = server.settings
        self._registry = registry
        self._refused = Refused(settings.name, MCP_REFUSED_TOOLS, "mcp.tool_refused")
        self._is_up: bool | None = None

    async def run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            error: BaseException | None = None
            try:
                await self._follow()
                pause_s = _FIRST_PAUSE_S
            except* Exception as errors:  # noqa: BLE001 - a foreign server; whatever it does, the agent goes on
                error = errors
            if error is not None:
                self._is_down(error)
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            await asyncio.sleep(pause_s)

    async def _follow(self) -> None:
        """Returns when the session has ended, after its tools were listed at least once."""
        changed = asyncio.Event()

        async def on_message(_message: object) -> None:
            # Which notification it was does not matter: a list costs little.
            changed.set()

        async with connected(self._server, read_timeout_s=_READ_S, on_message=on_message) as client:
            while True:
                changed.clear()
                self._take(await _all_tools(client))
                await _until_changed(client, changed)
                # A server that tells changes without end does not keep the agent busy.
                await asyncio.sleep(_FIRST_PAUSE_S)

    def _take(self, tools: list[Tool]) -> None:
        found = listed(self._server, tools)
        self._registry.replace(self._source, found.tools)
        self._refused.report(found.refused)
        if not self._is_up:
            log.info("mcp.connected", server=self._settings.name, tools=len(found.tools))
        self._is_up = True
        MCP_SERVER_UP.labels(self._settings.name).set(1)

    def _is_down(self, error: BaseException) -> None:
        self._registry.replace(self._source, ())
        MCP_SERVER_UP.labels(self._settings.name).set(0)
        if self._is_up is not False:
            log.warning("mcp.down", server=self._settings.name, error=type(first_of(error)).__name__)
        self._is_up = False

    @property
    def _source(self) -> str:
        return f"mcp:{self._settings.name}"


async def _all_tools(client: Client) -> list[Tool]:
    tools: list[Tool] = []
    cursor: str | None = None
    for _ in range(_MAX_PAGES):
        page = await client.list_tools(cursor=cursor, cache_mode="refresh")
        tools += page.tools
        cursor = page.next_cursor
        if cursor is None:
            break
    return tools


async def _until_changed(client: Client, changed: asyncio.Event) -> None:
    """Returns when the server says that its tools have changed, or after a while."""
    # Lost: the next list shows whether the server is still there.
    with suppress(TimeoutError, SubscriptionLost):
        async with asyncio.timeout(_REFRESH_S):
            try:
                async with client.listen(tools_list_changed=True) as events:
                    async for _ in events:
                        return
            except (ListenNotSupportedError, MCPError):
                # Of an earlier protocol, which sends notifications instead, or of no mind to tell.
                await changed.wait()
