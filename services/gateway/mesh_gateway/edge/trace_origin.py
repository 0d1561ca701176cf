"""Decides whose trace a request belongs to.

A trace id from the internet would let strangers write into any trace, and a sampling decision from there would let them
fill the trace store. Their context becomes a link of a new trace, so that a client can still find its request.
"""

from typing import Any, Final

from mesh_common.process.telemetry import restored_context
from opentelemetry import trace
from opentelemetry.trace import SpanContext
from starlette.types import ASGIApp, Receive, Scope, Send

from mesh_gateway.edge.client_address import ClientAddresses
from mesh_gateway.edge.connections import SERVED

_KEY: Final = "mesh.foreign_trace"
_TRACEPARENT: Final = b"traceparent"
# Baggage would travel on to all services.
_CONTEXT_HEADERS: Final = frozenset({_TRACEPARENT, b"tracestate", b"baggage"})


class TraceOrigin:
    """Removes the trace context of any but the named proxies. It wraps the application, because FastAPI starts the span
    before its middleware runs."""

    def __init__(self, app: ASGIApp, addresses: ClientAddresses) -> None:
        self._app = app
        self._addresses = addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in SERVED and _has_context(scope) and not self._addresses.is_trusted_peer(scope):
            scope[_KEY] = _foreign(scope)
            scope["headers"] = [header for header in scope["headers"] if header[0] not in _CONTEXT_HEADERS]
        await self._app(scope, receive, send)


def link_foreign_trace(scope: Scope) -> None:
    """Links the current span to the trace that the client named, if it named one."""
    foreign: SpanContext | None = scope.get(_KEY)
    if foreign:
        trace.get_current_span().add_link(foreign)


def _has_context(scope: Scope) -> bool:
    return any(name in _CONTEXT_HEADERS for name, _ in scope["headers"])


def _foreign(scope: Scope) -> Any:
    """The client's span; None if the header cannot be read."""
    values = [value for name, value in scope["headers"] if name == _TRACEPARENT]
    if len(values) != 1:
        return None
    span = trace.get_current_span(restored_context({"traceparent": values[0].decode("latin-1")}))
    context = span.get_span_context()
    return context if context.is_valid else None
