"""Finds the tools of installed packages: the entry points of the group `mesh.tools`."""

import re
from collections.abc import Collection, Sequence
from importlib.metadata import EntryPoint
from typing import Final

from mesh_agent.entry_points import TOOLS, usable
from mesh_agent.metrics import TOOLS_UNUSABLE
from mesh_agent.sdk.tool import ToolDefinition
from mesh_agent.tool_server_settings import SEPARATOR
from mesh_agent.tools.coded.functions import CodedTool, coded_tool

_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}", re.ASCII)


def installed_tools(taken: Collection[str]) -> Sequence[CodedTool]:
    """Loads all entry points. A tool that cannot be used is logged and counted. `taken`: names of other tools."""
    names = set(taken)

    def load(point: EntryPoint) -> CodedTool:
        if not _NAME.fullmatch(point.name) or SEPARATOR in point.name:
            raise ValueError("a name has 1 to 64 letters, digits, _ and -, and no __, which MCP servers' tools have")
        if point.name in names:
            raise ValueError("another tool has this name")
        definition = point.load()
        if not isinstance(definition, ToolDefinition):
            raise TypeError("the entry point is not made by mesh_agent.sdk.tool")
        made = coded_tool(point.name, definition)
        names.add(point.name)
        return made

    return tuple(usable(TOOLS, load, unusable=TOOLS_UNUSABLE, event="tool.unusable"))
