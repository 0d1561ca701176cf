"""The tools that the settings ask for."""

from collections.abc import Awaitable, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Final

import aiohttp
from mesh_common.clock import Clock

from mesh_agent.domain.tools import Approval, Effect
from mesh_agent.ports import PersonalMemories
from mesh_agent.settings import AgentSettings
from mesh_agent.tools.ask_user import ask_user_tool
from mesh_agent.tools.calculate import calculate_tool
from mesh_agent.tools.coded.installed import installed_tools
from mesh_agent.tools.current_time import current_time_tool
from mesh_agent.tools.http_tool import http_tool
from mesh_agent.tools.memory import memory_tools
from mesh_agent.tools.registry import MeshTool, ToolRegistry
from mesh_agent.tools.server_access import ServerAccess
from mesh_agent.tools.web.source import open_web_tools

# As many calls of functions that block at once; others wait, within their own time.
_TOOL_THREADS: Final = 16


async def open_tool_sources(
    stack: AsyncExitStack, settings: AgentSettings, registry: ToolRegistry
) -> list[Callable[[], Awaitable[None]]]:
    """What keeps the tools of servers up to date, each to be run until the end. Imports nothing that is not used."""
    sources: list[Callable[[], Awaitable[None]]] = []
    if not settings.tool_servers:
        return sources
    session = await _open_session(stack, settings)
    if settings.openapi:
        from mesh_agent.tools.openapi.source import OpenApiSource  # noqa: PLC0415

        sources += [OpenApiSource(entry, registry, session).run for entry in settings.openapi]
    if settings.mcp_servers:
        from mesh_agent.tools.mcp.connection import McpServer  # noqa: PLC0415
        from mesh_agent.tools.mcp.source import McpSource  # noqa: PLC0415

        servers = [McpServer(entry, ServerAccess(entry, session)) for entry in settings.mcp_servers]
        sources += [McpSource(server, registry).run for server in servers]
    return sources


async def open_tools(
    stack: AsyncExitStack, settings: AgentSettings, clock: Clock, memories: PersonalMemories
) -> list[MeshTool]:
    """What they hold open is closed with the stack."""
    tools = [MeshTool(current_time_tool(clock), Effect.NONE), MeshTool(calculate_tool(), Effect.NONE)]
    if settings.ask_user:
        tools.append(ask_user_tool())
    if settings.http_tools:
        session = await _open_session(stack, settings)
        tools += [
            MeshTool(http_tool(entry, session), Effect(entry.effect), entry.timeout_s, Approval(entry.approval))
            for entry in settings.http_tools
        ]
    tools += await open_web_tools(stack, settings)
    tools += memory_tools(memories) if settings.memory_tools else []
    return tools + _coded_tools(stack, {one.tool.name for one in tools})


def _coded_tools(stack: AsyncExitStack, taken: Collection[str]) -> list[MeshTool]:
    """Functions that are no coroutines share a few threads, apart from those that the event loop itself uses."""
    found = installed_tools(taken)
    threads = ThreadPoolExecutor(_TOOL_THREADS, thread_name_prefix="coded_tool")
    stack.callback(threads.shutdown, wait=False, cancel_futures=True)
    return [one.opened(threads) for one in found]


async def _open_session(stack: AsyncExitStack, settings: AgentSettings) -> aiohttp.ClientSession:
    """One connection per call. The server may close a kept-alive connection just as a request is sent, and then it is
    unknown whether the request arrived."""
    connector = aiohttp.TCPConnector(limit=settings.max_runs, force_close=True)
    session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
    return await stack.enter_async_context(session)
