"""Access to tool servers without OAuth, which opens nothing."""

from typing import Any

from mesh_agent.tool_server_settings import McpServerSettings, ToolServerSettings
from mesh_agent.tools.mcp.connection import McpServer
from mesh_agent.tools.server_access import ServerAccess


def access_to(settings: ToolServerSettings) -> ServerAccess:
    assert settings.oauth is None
    no_session: Any = None
    return ServerAccess(settings, no_session)


def server_of(settings: McpServerSettings) -> McpServer:
    return McpServer(settings, access_to(settings))
