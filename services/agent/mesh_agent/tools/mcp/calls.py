"""One call of an MCP tool, in a session of its own: what users do with stateful servers stays apart."""

import json
from collections.abc import Mapping
from typing import Any, Final

import httpx2
from langchain_core.tools import ToolException
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)

from mesh_agent.sdk.tool import UnknownOutcomeError
from mesh_agent.tools.call import current_call, max_result_chars
from mesh_agent.tools.mcp.connection import McpServer, TooMuchError, connected, first_of
from mesh_agent.tools.oauth import TokenError

KEY: Final = "agent-mesh/idempotency-key"
"""In `_meta` of a call: the same whenever the call is repeated."""
ON_BEHALF_OF: Final = "agent-mesh/on-behalf-of"
"""In `_meta` of a call: the user's id."""
# The call's own time limit is the plan's; this one only ends what nobody waits for.
_READ_S: Final = 310.0
_MAX_ERROR_CHARS: Final = 1_000
# The server looked at the request and did not call the tool. Other codes come from a tool that failed on its way, and
# from the client itself when a connection ends, a status is not 2xx, an answer is not JSON or does not come in time.
_NOT_CALLED: Final = frozenset({METHOD_NOT_FOUND, INVALID_PARAMS})


class McpCall:
    def __init__(self, server: McpServer, name: str) -> None:
        self._server = server
        self._name = name

    async def __call__(self, arguments: Mapping[str, Any]) -> str:
        """Raises ToolException if the call had no effect, UnknownOutcomeError if that is unknown."""
        identity = current_call()
        meta = {KEY: identity.key, ON_BEHALF_OF: str(identity.subject.user_id)}
        is_sent = False
        failure: BaseException | None = None
        try:
            async with connected(self._server, read_timeout_s=_READ_S) as client:
                is_sent = True
                result = await client.call_tool(self._name, dict(arguments), meta=meta)  # type: ignore[arg-type] # any keys
        except* (MCPError, TokenError) as errors:
            failure = first_of(errors)
        except* (httpx2.HTTPError, TooMuchError, OSError, RuntimeError) as errors:
            failure = first_of(errors)
        if failure is None:
            return _text_of(result)
        raise _explained(failure, is_sent=is_sent) from failure


def _explained(error: BaseException, *, is_sent: bool) -> ToolException:
    if isinstance(error, TokenError):
        return error
    if isinstance(error, MCPError) and (not is_sent or error.error.code in _NOT_CALLED):
        return ToolException(f"The tool refused: {error.error.message[:_MAX_ERROR_CHARS]}")
    if isinstance(error, TooMuchError):
        return UnknownOutcomeError("The tool's result is too large to be read; the tool may have acted all the same.")
    if is_sent:
        return UnknownOutcomeError("The tool did not answer; it may have acted all the same.")
    return ToolException("The tool cannot be reached.")


def _text_of(result: CallToolResult) -> str:
    text = "\n".join(filter(None, map(_shown, result.content)))
    if not text and result.structured_content is not None:
        text = json.dumps(result.structured_content, ensure_ascii=False)
    text = text[: max_result_chars()]
    if result.is_error:
        raise ToolException(text or "The tool failed.")
    return text


def _shown(part: object) -> str:
    match part:
        case TextContent(text=text):
            return text
        case EmbeddedResource(resource=TextResourceContents(text=text)):
            return text
        case ResourceLink(uri=uri, name=name):
            return f"[{name}: {uri}]"
        case ImageContent(mime_type=kind, data=data):
            return f"[an image of type {kind}, {len(data) * 3 // 4:,} bytes, which is not shown]"
        case _:
            return "[a result of a kind that is not shown]"
