"""The headers that a tool server gets from the operator with each request."""

import aiohttp

from mesh_agent.tool_server_settings import ToolServerSettings
from mesh_agent.tools.oauth import ClientCredentials


class ServerAccess:
    def __init__(self, settings: ToolServerSettings, session: aiohttp.ClientSession) -> None:
        self._headers = {name: value.get_secret_value() for name, value in settings.headers.items()}
        self._credentials = ClientCredentials(settings.oauth, session) if settings.oauth else None

    async def headers(self) -> dict[str, str]:
        """Raises TokenError."""
        return self._headers | (await self._credentials.headers() if self._credentials else {})
