"""Makes tools of what an MCP server lists, and refuses what no model should see."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from mcp.types import Tool

from mesh_agent.domain.tools import Approval, Effect
from mesh_agent.tool_server_settings import SEPARATOR, McpServerSettings
from mesh_agent.tools.mcp.calls import McpCall
from mesh_agent.tools.mcp.connection import McpServer
from mesh_agent.tools.registry import MeshTool
from mesh_agent.tools.schema import foreign_schema_fault
from mesh_agent.tools.tool import of_schema

_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}", re.ASCII)
_MAX_TOOLS: Final = 128
_MAX_DESCRIPTION_CHARS: Final = 2_000


@dataclass(frozen=True, slots=True)
class Listed:
    """`refused`: names of tools, with why the agent does not take them."""

    tools: list[MeshTool]
    refused: dict[str, str]


def listed(server: McpServer, tools: Iterable[Tool]) -> Listed:
    """By the server's order. A name that is listed twice is taken once."""
    settings = server.settings
    found: dict[str, MeshTool] = {}
    refused: dict[str, str] = {}
    for tool in tools:
        if settings.tools is not None and tool.name not in settings.tools:
            continue
        fault = _fault(settings, tool, found)
        if fault:
            refused[tool.name[:128]] = fault
        else:
            made = _made(server, tool)
            found[made.tool.name] = made
    return Listed(list(found.values()), refused)


def _fault(settings: McpServerSettings, tool: Tool, found: Mapping[str, MeshTool]) -> str:
    name = f"{settings.name}{SEPARATOR}{tool.name}"
    if not _NAME.fullmatch(name):
        return "its name has other characters than letters, digits, _ and -, or is too long"
    if name in found:
        return "it is listed twice"
    if len(found) == _MAX_TOOLS:
        return f"the server lists more than {_MAX_TOOLS} tools"
    return foreign_schema_fault(tool.input_schema)


def _made(server: McpServer, tool: Tool) -> MeshTool:
    settings = server.settings
    policy = settings.policy_of(tool.name)
    made = of_schema(
        f"{settings.name}{SEPARATOR}{tool.name}",
        (tool.description or tool.title or tool.name)[:_MAX_DESCRIPTION_CHARS],
        {**tool.input_schema, "properties": tool.input_schema.get("properties") or {}},
        McpCall(server, tool.name),
    )
    return MeshTool(
        made,
        Effect(policy.effect) if policy.effect else _effect(tool),
        policy.timeout_s or settings.timeout_s,
        Approval(policy.approval or settings.approval),
    )


def _effect(tool: Tool) -> Effect:
    """By the annotations, which are the server's word: the strictest effect for a tool that says nothing."""
    hints = tool.annotations
    if hints and hints.read_only_hint:
        return Effect.NONE
    if hints and hints.idempotent_hint:
        return Effect.IDEMPOTENT
    return Effect.ONCE
