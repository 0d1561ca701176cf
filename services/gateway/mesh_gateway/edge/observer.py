"""The boundary of every request: trace id, log line, metrics, headers of every response, and the catch-all handler.

A WebSocket counts as one request from its handshake to its close and is handled like HTTP.
The span itself is FastAPI's own (`FastAPI(telemetry=…)`). Of all code that serves HTTP, `LastCatch` alone catches
everything.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final

import structlog
from mesh_common.errors import Internal
from mesh_common.ids import new_id
from mesh_common.process.telemetry import current_trace_id
from opentelemetry import trace
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mesh_gateway.edge.connections import CLIENT_GONE, PROBES, SERVED
from mesh_gateway.edge.errors import INTERNAL_ERROR, error_response
from mesh_gateway.edge.trace_origin import link_foreign_trace
from mesh_gateway.metrics import HTTP_REQUESTS, HTTP_SECONDS
from mesh_gateway.request_record import ErrorDialect, RequestRecord, record_of

log = structlog.get_logger()

TRACE_ID_HEADER: Final = "X-Trace-Id"
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WEBSOCKET"})
# https://cheatsheetseries.owasp.org/cheatsheets/REST_Security_Cheat_Sheet.html#security-headers
_SECURITY_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class RequestObserver:
    def __init__(self, app: ASGIApp, dialects: Sequence[tuple[str, ErrorDialect]]) -> None:
        """`dialects` by path prefix. The first match applies; the last one must match every path."""
        self._app = app
        self._dialects = tuple(dialects)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in SERVED:
            await self._app(scope, receive, send)
            return
        trace_id = current_trace_id() or new_id().hex
        record = RequestRecord(trace_id, time.perf_counter(), self._dialect_of(scope["path"]))
        record.attach(scope)
        _hide_query(scope)
        link_foreign_trace(scope)
        answer = _Answer(send, record)
        with structlog.contextvars.bound_contextvars(trace_id=record.trace_id):
            try:
                await self._app(scope, receive, answer.send)
            finally:
                _report(scope, record, answer)

    def _dialect_of(self, path: str) -> ErrorDialect:
        return next(dialect for prefix, dialect in self._dialects if path.startswith(prefix))


class LastCatch:
    """Answers unhandled exceptions with an error. It is inside the CORS middleware, so that browsers can read it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_started = False

        async def watched(message: Message) -> None:
            nonlocal is_started
            is_started = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            log.exception("http.crashed", route=_route(scope), error=type(error).__name__)
            if not is_started:
                crash = error_response(Internal("Something went wrong on our side."), record_of(scope))
                await crash(scope, receive, send)
            elif scope["type"] == "websocket":
                # Closing a closed WebSocket raises RuntimeError.
                with suppress(RuntimeError):
                    await send({"type": "websocket.close", "code": INTERNAL_ERROR})


class _Answer:
    def __init__(self, send: Send, record: RequestRecord) -> None:
        self._send = send
        self._record = record
        self.status: int | None = None

    async def send(self, message: Message) -> None:
        kind = message["type"].removeprefix("websocket.")
        if kind in {"http.response.start", "accept"}:
            self.status = message.get("status", HTTPStatus.SWITCHING_PROTOCOLS)
            headers = MutableHeaders(scope=message)
            headers[TRACE_ID_HEADER] = self._record.trace_id
            for name, value in {**_SECURITY_HEADERS, **self._record.headers}.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")
        await self._send(message)


def _report(scope: Scope, record: RequestRecord, answer: _Answer) -> None:
    seconds = time.perf_counter() - record.started_s
    route = _route(scope)
    asked = scope.get("method", "WEBSOCKET")
    method = asked if asked in _METHODS else "OTHER"
    status = int(answer.status or CLIENT_GONE)
    HTTP_REQUESTS.labels(route, method, str(status)).inc()
    HTTP_SECONDS.labels(route, method).observe(seconds)
    if scope["path"] in PROBES:
        return
    level = log.warning if status >= HTTPStatus.INTERNAL_SERVER_ERROR else log.info
    known = {"reason": record.reason, "run_id": record.members.get("run_id")}
    present = {name: value for name, value in known.items() if value}
    level("http.served", route=route, method=method, status=status, ms=round(seconds * 1000, 1), **present)


def _route(scope: Scope) -> str:
    """The route template, never the path: labels and log fields must come from a closed set."""
    route: Any = scope.get("route")
    return str(getattr(route, "path_format", None) or "unmatched")


def _hide_query(scope: Scope) -> None:
    # FastAPI records the query on the span, and a search query is the user's own text.
    if scope["query_string"]:
        span = trace.get_current_span()
        if span.is_recording():
            span.set_attribute("url.query", "REDACTED")
