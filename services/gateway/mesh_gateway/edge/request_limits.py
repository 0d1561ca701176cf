"""Limits on the size of a request, checked before anything reads it: httptools would accept 300 kB of headers."""

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from mesh_common.errors import Unavailable
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mesh_gateway.edge.connections import PROBES, SERVED
from mesh_gateway.edge.errors import error_response, status_response
from mesh_gateway.edge.protocol import IS_BEYOND
from mesh_gateway.metrics import REFUSALS
from mesh_gateway.request_record import record_of

_RETRY_AFTER_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class RequestBounds:
    max_body_bytes: int
    max_headers: int
    max_header_bytes: int
    max_url_bytes: int
    body_timeout_s: float
    min_body_bytes_per_s: int


class RequestLimits:
    def __init__(self, app: ASGIApp, bounds: RequestBounds) -> None:
        self._app = app
        self._bounds = bounds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in SERVED:
            await self._app(scope, receive, send)
            return
        if scope.get(IS_BEYOND) and scope["path"] not in PROBES:
            await _full(scope)(scope, receive, send)
            return
        status = self._refusal(scope)
        if status is None and scope["type"] == "http":
            await self._app(scope, _BoundedBody(receive, self._bounds).receive, send)
        elif status is None:
            # The WebSocket protocol limits its messages itself.
            await self._app(scope, receive, send)
        else:
            # The connection stays open: closing it while the body still arrives would reset it and lose this response.
            response = status_response(status, record_of(scope))
            await response(scope, receive, send)

    def _refusal(self, scope: Scope) -> HTTPStatus | None:
        headers = scope["headers"]
        if len(headers) > self._bounds.max_headers:
            return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        if sum(len(name) + len(value) for name, value in headers) > self._bounds.max_header_bytes:
            return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > self._bounds.max_url_bytes:
            return HTTPStatus.REQUEST_URI_TOO_LONG
        length = next((value for name, value in headers if name == b"content-length"), b"0")
        if length.isdigit() and int(length) > self._bounds.max_body_bytes:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        return None


def _full(scope: Scope) -> Response:
    error = Unavailable(
        "Too many connections are open here. Try again.", reason="CONNECTIONS_FULL", retry_after_s=_RETRY_AFTER_S
    )
    REFUSALS.labels("connections").inc()
    response = error_response(error, record_of(scope))
    response.headers["Connection"] = "close"
    return response


class _BoundedBody:
    """Counts what arrives, because a chunked body declares no length, and bounds the time for all of it.

    A bound on each pause alone would hold a connection for as long as the client sends a byte now and then.
    """

    def __init__(self, receive: Receive, bounds: RequestBounds) -> None:
        self._receive = receive
        self._bounds = bounds
        self._received = 0
        self._is_whole = False
        self._started_s = asyncio.get_running_loop().time()

    async def receive(self) -> Message:
        if self._is_whole:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline_s()):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, headers={"Connection": "close"}) from None
        self._is_whole = not message.get("more_body", False)
        self._received += len(message.get("body", b""))
        if self._received > self._bounds.max_body_bytes:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return message

    def _deadline_s(self) -> float:
        earned_s = self._received / self._bounds.min_body_bytes_per_s
        return self._started_s + self._bounds.body_timeout_s + earned_s
