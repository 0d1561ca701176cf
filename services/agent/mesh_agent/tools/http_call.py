"""One HTTP request of a tool, and what its outcome means for the call."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp
from yarl import URL

from mesh_agent.domain.tools import MAX_TOOL_RESULT_CHARS
from mesh_agent.sdk.tool import ToolError, UnknownOutcomeError
from mesh_agent.tools.call import current_call

# A character has at most four bytes; a longer body would be truncated anyway.
_MAX_BYTES: Final = 4 * MAX_TOOL_RESULT_CHARS
_NO_TIMEOUT: Final = aiohttp.ClientTimeout(total=None)
_FIRST_REDIRECTION: Final = 300
_FIRST_CLIENT_ERROR: Final = 400
_FIRST_SERVER_ERROR: Final = 500


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """`url` is encoded already."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None


async def answer_of(session: aiohttp.ClientSession, request: HttpRequest) -> str:
    """The body of a 2xx answer, with the headers that identify the call added to the request.

    Raises ToolError if the call had no effect, UnknownOutcomeError if that is unknown.
    """
    identity = current_call()
    identifying = {"Idempotency-Key": identity.key, "Mesh-On-Behalf-Of": str(identity.subject.user_id)}
    try:
        async with session.request(
            request.method,
            URL(request.url, encoded=True),
            data=request.body,
            headers={**request.headers, **identifying},
            # Whoever calls the tool bounds the call, by the plan of its run.
            timeout=_NO_TIMEOUT,
            # The operator named this address and no other.
            allow_redirects=False,
        ) as response:
            return _content(response.status, await _text(response))
    except aiohttp.ClientConnectorError as error:
        raise ToolError("The tool cannot be reached.") from error
    except aiohttp.ClientError as error:
        raise UnknownOutcomeError("The tool did not answer; it may have acted all the same.") from error


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
        raise ToolError(text or f"The tool refused with status {status}.")
    if status >= _FIRST_REDIRECTION:
        raise ToolError(f"The tool answered with status {status}, and redirections are not followed.")
    return text
