"""Tools on the operator's own HTTP servers, by setting: `POST` the arguments, and return the body of the answer.

`Idempotency-Key` is the same whenever a call is repeated, so that the server can recognize it (an `idempotent` tool
must). `Mesh-On-Behalf-Of` is the user's id. The arguments fit the tool's schema; what the server finds wrong with them
beyond that goes to the model as its 4xx answer.
"""

from collections.abc import Mapping
from typing import Any, Final

import aiohttp
from langchain_core.tools import ToolException
from yarl import URL

from mesh_agent.domain.tools import MAX_TOOL_RESULT_CHARS
from mesh_agent.sdk.tool import UnknownOutcomeError
from mesh_agent.settings import HttpToolSettings
from mesh_agent.tools.call import current_call, to_json
from mesh_agent.tools.tool import Tool, of_schema

# A character has at most four bytes; a longer body would be truncated anyway.
_MAX_BYTES: Final = 4 * MAX_TOOL_RESULT_CHARS
_NO_TIMEOUT: Final = aiohttp.ClientTimeout(total=None)
_FIRST_REDIRECTION: Final = 300
_FIRST_CLIENT_ERROR: Final = 400
_FIRST_SERVER_ERROR: Final = 500


def http_tool(settings: HttpToolSettings, session: aiohttp.ClientSession) -> Tool:
    return of_schema(settings.name, settings.description, settings.parameters, _HttpCall(settings, session))


class _HttpCall:
    def __init__(self, settings: HttpToolSettings, session: aiohttp.ClientSession) -> None:
        self._settings = settings
        self._session = session

    async def __call__(self, arguments: Mapping[str, Any]) -> str:
        """Raises ToolException if the call had no effect, UnknownOutcomeError if that is unknown."""
        try:
            async with self._session.post(
                URL(str(self._settings.url), encoded=True),
                data=to_json(arguments).encode(),
                headers=self._headers(),
                # Whoever calls the tool bounds the call, by the plan of its run.
                timeout=_NO_TIMEOUT,
                # The operator named this address and no other.
                allow_redirects=False,
            ) as response:
                return _content(response.status, await _text(response))
        except aiohttp.ClientConnectorError as error:
            raise ToolException("The tool cannot be reached.") from error
        except aiohttp.ClientError as error:
            raise UnknownOutcomeError("The tool did not answer; it may have acted all the same.") from error

    def _headers(self) -> dict[str, str]:
        identity = current_call()
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": identity.key,
            "Mesh-On-Behalf-Of": str(identity.subject.user_id),
        }
        key = self._settings.api_key
        return headers | ({"Authorization": f"Bearer {key.get_secret_value()}"} if key else {})


async def _text(response: aiohttp.ClientResponse) -> str:
    """The body, truncated to the limit. Raises ClientError if it ends prematurely."""
    body = b""
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) >= _MAX_BYTES:
            break
    return body[:_MAX_BYTES].decode(errors="replace")


def _content(status: int, text: str) -> str:
    if status >= _FIRST_SERVER_ERROR:
        raise UnknownOutcomeError(f"The tool failed with status {status}; it may have acted all the same.")
    if status >= _FIRST_CLIENT_ERROR:
        raise ToolException(text or f"The tool refused with status {status}.")
    if status >= _FIRST_REDIRECTION:
        raise ToolException(f"The tool answered with status {status}, and redirections are not followed.")
    return text
