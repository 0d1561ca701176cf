"""Connections to one MCP server, with what the operator sends along and bounds on what it sends back."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from mesh_agent.tool_server_settings import McpServerSettings
from mesh_agent.tools.server_access import ServerAccess

_CONNECT_S: Final = 5.0
# Far more than any list or result of a tool that a model could read.
_MAX_BYTES: Final = 4_194_304


class TooMuchError(Exception):
    """The server sends more than anybody would read."""


def first_of(errors: BaseException) -> BaseException:
    """The first error in a group that is no group itself. The client's own tasks raise groups of groups."""
    while isinstance(errors, BaseExceptionGroup):
        errors = errors.exceptions[0]
    return errors


@dataclass(frozen=True, slots=True)
class McpServer:
    settings: McpServerSettings
    access: ServerAccess


@asynccontextmanager
async def connected(server: McpServer, *, read_timeout_s: float, on_message: Any = None) -> AsyncIterator[Client]:
    """A session of its own. It must be entered and left in the same task, as anyio demands.

    Raises TokenError, or ExceptionGroup of what the client's own tasks raise.
    """
    headers = await server.access.headers()
    timeout = httpx2.Timeout(read_timeout_s, connect=_CONNECT_S)
    async with (
        httpx2.AsyncClient(
            headers={**headers, "Accept-Encoding": "identity"},
            timeout=timeout,
            transport=_Bounded(),
            trust_env=False,
            follow_redirects=False,
        ) as http,
        Client(
            streamable_http_client(str(server.settings.url), http_client=http, max_sse_event_size=_MAX_BYTES),
            read_timeout_seconds=read_timeout_s,
            message_handler=on_message,
        ) as client,
    ):
        yield client


class _Bounded(httpx2.AsyncHTTPTransport):
    """Counts what each response brings, while it is read."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await super().handle_async_request(request)
        if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            # What it grows to is not known before it is unpacked, which happens after the count.
            await response.aclose()
            raise TooMuchError
        response.stream = _BoundedStream(response.stream)
        return response


class _BoundedStream(httpx2.AsyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = _MAX_BYTES
        async for chunk in self._stream:
            left -= len(chunk)
            if left < 0:
                raise TooMuchError
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()
