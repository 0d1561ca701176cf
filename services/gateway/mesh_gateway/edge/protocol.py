"""uvicorn's HTTP protocol with limits against clients that send nothing, read nothing, or open many connections.

uvicorn alone waits forever for the headers of a request, and for a client to read a response. When all connections are
in use, the one that has waited longest for its client is closed for the next, as nginx does with idle ones: else slow
clients would keep others out until their deadlines.
"""

import asyncio
from dataclasses import dataclass
from typing import ClassVar, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from mesh_gateway.metrics import CUT_CONNECTIONS

# In the scope of every request on a connection above the limit.
IS_BEYOND: Final = "mesh.is_beyond"
# A client that needs less time for a request, or between two, never loses its connection to another.
_PATIENCE_S: Final = 1.0
# This many connections above the limit get an explanation and may query the health endpoints; more are cut at once.
_MAX_BEYOND: Final = 256


@dataclass(frozen=True, slots=True)
class ConnectionBounds:
    """`header_timeout_s`: for all headers of a request; `write_timeout_s`: for the client to read pending output."""

    header_timeout_s: float
    write_timeout_s: float
    max_connections: int


class BoundedProtocol(HttpToolsProtocol):
    """One connection. It is aborted rather than closed: closing would wait for a client that does not read."""

    bounds: ClassVar[ConnectionBounds]
    waiting: "ClassVar[dict[BoundedProtocol, float]]"
    """Connections whose client sends a request or none, longest first, with the time since when."""
    _header_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None
    _is_beyond = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        excess = len(self.connections) - self.bounds.max_connections
        self._is_beyond = excess > 0 and not self._has_displaced_another()
        self._wait_for_client()
        if self._is_beyond and excess > _MAX_BEYOND:
            self.cut("crowd")
        else:
            self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_header_timer()
        self._stop_write_timer()
        self.waiting.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not _is_answering(self.cycle):
            # A partial request, or the rest of a refused body; uvicorn's idle timer runs in neither case.
            self._expect_headers()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._wait_for_client()
        if self._is_beyond:
            self.scope[IS_BEYOND] = True  # type: ignore[typeddict-unknown-key]  # our own key in uvicorn's scope

    def on_headers_complete(self) -> None:
        self._stop_header_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        # After a refusal, the rest of the body still counts as the client's time.
        if _is_answering(self.cycle):
            self.waiting.pop(self, None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not _is_answering(self.cycle):
            self._wait_for_client()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGIApp) -> None:  # type: ignore[override]  # as uvicorn's own
        super()._start_asgi_task(cycle, _until_close(cycle, app) if cycle.scope["http_version"] == "1.0" else app)  # type: ignore[arg-type]

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_timer = self.loop.call_later(self.bounds.write_timeout_s, self.cut, "write")

    def resume_writing(self) -> None:
        self._stop_write_timer()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        # A client that has not read the response by now never will.
        self.transport.abort()

    def _expect_headers(self) -> None:
        if self._header_timer is None and not self.transport.is_closing():
            self._header_timer = self.loop.call_later(self.bounds.header_timeout_s, self.cut, "headers")

    def _stop_header_timer(self) -> None:
        if self._header_timer:
            self._header_timer.cancel()
            self._header_timer = None

    def _stop_write_timer(self) -> None:
        if self._write_timer:
            self._write_timer.cancel()
            self._write_timer = None

    def _wait_for_client(self) -> None:
        self.waiting.pop(self, None)
        self.waiting[self] = self.loop.time()

    def _has_displaced_another(self) -> bool:
        slowest, since_s = next(iter(self.waiting.items()), (None, 0.0))
        if slowest is None or self.loop.time() - since_s < _PATIENCE_S:
            return False
        # Its connection_lost comes later; no second newcomer may count on its place.
        del self.waiting[slowest]
        slowest.cut("displaced")
        return True

    def cut(self, cause: str) -> None:
        CUT_CONNECTIONS.labels(cause).inc()
        self.transport.abort()


def _until_close(cycle: RequestResponseCycle, app: ASGIApp) -> ASGIApp:
    """HTTP/1.0 has no chunks: a body of unknown length ends when the connection closes (RFC 9112, section 6.3).

    uvicorn would send it in chunks. It closes every HTTP/1.0 connection after the response.
    """

    async def unchunked(scope: Scope, receive: Receive, send: Send) -> None:
        has_length = False

        async def sized(message: Message) -> None:
            nonlocal has_length
            if message["type"] == "http.response.start":
                has_length = any(name.lower() == b"content-length" for name, _ in message.get("headers", ()))
                if not has_length:
                    cycle.chunked_encoding = False
            elif not has_length:
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        await app(scope, receive, sized)

    return unchunked


def _is_answering(cycle: RequestResponseCycle | None) -> bool:
    return cycle is not None and not cycle.response_complete


def protocol_within(given: ConnectionBounds) -> type[BoundedProtocol]:
    """The protocol class that uvicorn instantiates for each connection."""

    class Bounded(BoundedProtocol):
        bounds = given
        waiting: ClassVar[dict[BoundedProtocol, float]] = {}

    return Bounded
