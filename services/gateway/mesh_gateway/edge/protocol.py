"""uvicorn's HTTP over httptools, for clients that send nothing, read nothing, or come in crowds.

uvicorn alone waits for ever for the headers of a request, and for room to write an answer.
"""

import asyncio
from dataclasses import dataclass
from typing import ClassVar, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from mesh_gateway.metrics import CUT_CONNECTIONS

# In the scope of every request on a connection beyond the bound.
IS_BEYOND: Final = "mesh.is_beyond"
# So many connections beyond the bound are told why, and may ask for the health; more are cut at once.
_MAX_BEYOND: Final = 256


@dataclass(frozen=True, slots=True)
class ConnectionBounds:
    """`header_timeout_s`: for all headers of a request; `write_timeout_s`: for the client to make room."""

    header_timeout_s: float
    write_timeout_s: float
    max_connections: int


class BoundedProtocol(HttpToolsProtocol):
    """One connection. What it cuts is aborted: closing would wait for a client that does not read."""

    bounds: ClassVar[ConnectionBounds]
    _header_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None
    _is_beyond = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        excess = len(self.connections) - self.bounds.max_connections
        self._is_beyond = excess > 0
        if excess > _MAX_BEYOND:
            self._cut("crowd")
        else:
            self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_header_timer()
        self._stop_write_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not _is_answering(self.cycle):
            # A request that has begun, or the rest of a body after its refusal; uvicorn's idle timer is off for both.
            self._expect_headers()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._is_beyond:
            self.scope[IS_BEYOND] = True  # type: ignore[typeddict-unknown-key]  # our own word in uvicorn's scope

    def on_headers_complete(self) -> None:
        self._stop_header_timer()
        super().on_headers_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_timer = self.loop.call_later(self.bounds.write_timeout_s, self._cut, "write")

    def resume_writing(self) -> None:
        self._stop_write_timer()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        # What is not read by now will not be.
        self.transport.abort()

    def _expect_headers(self) -> None:
        if self._header_timer is None and not self.transport.is_closing():
            self._header_timer = self.loop.call_later(self.bounds.header_timeout_s, self._cut, "headers")

    def _stop_header_timer(self) -> None:
        if self._header_timer:
            self._header_timer.cancel()
            self._header_timer = None

    def _stop_write_timer(self) -> None:
        if self._write_timer:
            self._write_timer.cancel()
            self._write_timer = None

    def _cut(self, cause: str) -> None:
        CUT_CONNECTIONS.labels(cause).inc()
        self.transport.abort()


def _is_answering(cycle: RequestResponseCycle | None) -> bool:
    return cycle is not None and not cycle.response_complete


def protocol_within(given: ConnectionBounds) -> type[BoundedProtocol]:
    """The class that uvicorn makes a connection's protocol from."""

    class Bounded(BoundedProtocol):
        bounds = given

    return Bounded
