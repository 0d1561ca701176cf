"""Access tokens for tool servers: OAuth 2.0 client credentials (RFC 6749, section 4.4)."""

import asyncio
import base64
import time
from typing import Any, Final
from urllib.parse import quote_plus

import aiohttp
from langchain_core.tools import ToolException
from yarl import URL

from mesh_agent.tool_server_settings import OAuthSettings

_TIMEOUT: Final = aiohttp.ClientTimeout(total=10.0)
# Without `expires_in` (RFC 6749 only recommends it), a token is asked for anew after this time.
_DEFAULT_LIFETIME_S: Final = 300.0
# A token that expires on its way is refused.
_MARGIN_S: Final = 30.0
_MAX_BYTES: Final = 65_536


class TokenError(ToolException):
    """There is no token. Nothing was called."""


class ClientCredentials:
    """One token for all users, fetched when it is needed and kept until shortly before it expires."""

    def __init__(self, settings: OAuthSettings, session: aiohttp.ClientSession) -> None:
        self._settings = settings
        self._session = session
        self._token = ""
        self._until_s = 0.0
        self._fetching = asyncio.Lock()

    async def headers(self) -> dict[str, str]:
        """Raises TokenError."""
        async with self._fetching:
            if time.monotonic() >= self._until_s:
                await self._fetch()
        return {"Authorization": f"Bearer {self._token}"}

    async def _fetch(self) -> None:
        settings = self._settings
        form = {"grant_type": "client_credentials"} | ({"scope": settings.scope} if settings.scope else {})
        form |= {"resource": settings.resource} if settings.resource else {}
        fetched_at_s = time.monotonic()
        try:
            async with self._session.post(
                URL(str(settings.token_url), encoded=True),
                data=form,
                headers={"Accept": "application/json", "Authorization": _basic(settings)},
                timeout=_TIMEOUT,
                allow_redirects=False,
            ) as response:
                if response.status != 200:  # noqa: PLR2004 - OK
                    raise TokenError(f"The server's token endpoint refused with status {response.status}.")
                answer = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise TokenError("The server's token endpoint did not answer.") from error
        self._take(answer, fetched_at_s)

    def _take(self, answer: Any, fetched_at_s: float) -> None:
        token = answer.get("access_token") if isinstance(answer, dict) else None
        if not isinstance(token, str) or not token.isascii() or not token.isprintable() or len(token) > _MAX_BYTES:
            raise TokenError("The server's token endpoint sent no token.")
        lifetime_s = answer.get("expires_in")
        if not isinstance(lifetime_s, int | float) or isinstance(lifetime_s, bool) or lifetime_s <= 0:
            lifetime_s = _DEFAULT_LIFETIME_S
        self._token = token
        self._until_s = fetched_at_s + max(lifetime_s - _MARGIN_S, lifetime_s / 2)


def _basic(settings: OAuthSettings) -> str:
    """RFC 6749, section 2.3.1: every server supports this form, in which both parts are encoded first."""
    parts = (settings.client_id, settings.client_secret.get_secret_value())
    return f"Basic {base64.b64encode(':'.join(map(quote_plus, parts)).encode()).decode()}"
