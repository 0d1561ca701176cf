"""HTTP/1.1 for a server whose answers are mostly precomputed bytes.

README.md ("Why no web framework") explains why. Handlers are plain functions that answer now or later through the
connection. There is no task, context or header object per request.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import cast
from urllib.parse import parse_qsl

import httptools

JSON = b"application/json"
_MAX_HEADER_BYTES = 64 * 1024
# Pipelined requests per connection; more are treated as abuse.
_MAX_WAITING = 64
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_LAST_CHUNK = b"0\r\n\r\n"


@dataclass(slots=True)
class Request:
    method: str = ""
    target: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    keep_alive: bool = True

    @property
    def path(self) -> str:
        return self.target.partition(b"?")[0].decode("latin-1")

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.target.partition(b"?")[2].decode("latin-1")))


class Connection(asyncio.Protocol):
    """One client's connection: parses requests, passes them on one at a time, and writes the handler's answers."""

    def __init__(
        self, handle: Callable[[Request, "Connection"], None], open_connections: "set[Connection]", max_body_bytes: int
    ) -> None:
        self._handle = handle
        self._open_connections = open_connections
        self._max_body_bytes = max_body_bytes
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[Request] = deque()
        self._current: Request | None = None
        self._is_dispatching = False
        self._refusal: int | None = None
        self.is_paused = False
        self.on_gone: Callable[[], None] | None = None
        """Called once if the client disconnects before the answer is complete."""
        self.on_writable: Callable[[], None] | None = None
        """Called when a paused connection accepts data again."""
        self._fresh_request()

    # --- what handlers use

    @property
    def is_gone(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def respond(self, status: int, body: bytes, content_type: bytes = JSON, headers: bytes = b"") -> None:
        """Sends a complete answer. `headers` are additional lines, each ending with CRLF."""
        head = b"content-type: %b\r\ncontent-length: %d\r\n%b" % (content_type, len(body), headers)
        self._write(self._head(status, head) + body)
        self.end()

    def start_stream(self, data: bytes) -> None:
        """Sends the status, the headers of an event stream and its first data in one write."""
        head = b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
        head += b"transfer-encoding: chunked\r\n"
        self._write(self._head(HTTPStatus.OK, head) + _chunk(data))

    def stream(self, data: bytes) -> None:
        self._write(_chunk(data))

    def end_stream(self) -> None:
        self._write(_LAST_CHUNK)
        self.end()

    def respond_cut(self, body: bytes, promised_bytes: int) -> None:
        """Sends a truncated answer: fewer bytes than its content-length."""
        head = b"content-type: application/json\r\ncontent-length: %d\r\n" % promised_bytes
        self._write(self._head(HTTPStatus.OK, head) + body)
        self.cut()

    def cut(self) -> None:
        """Closes the connection in mid-answer. Data written before is still sent."""
        self.on_gone = self.on_writable = None
        if self._transport is not None:
            self._transport.close()

    def end(self) -> None:
        """Ends the answer and handles the next request, if any."""
        self.on_gone = self.on_writable = None
        keep_alive = self._current is not None and self._current.keep_alive
        self._current = None
        if not keep_alive and self._transport is not None:
            self._transport.close()
        elif not self._is_dispatching:
            self._dispatch()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, because uvloop's transports do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._open_connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._transport = None
        self._open_connections.discard(self)
        self._waiting.clear()
        gone, self.on_gone, self.on_writable = self.on_gone, None, None
        if gone:
            gone()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refusal = self._refusal or HTTPStatus.BAD_REQUEST
        self._dispatch()

    def pause_writing(self) -> None:
        self.is_paused = True

    def resume_writing(self) -> None:
        self.is_paused = False
        if self.on_writable:
            self.on_writable()

    # --- httptools

    def on_url(self, url: bytes) -> None:
        self._request.target += url
        self._count_header(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._request.headers[name.decode("latin-1").lower()] = value.decode("latin-1")
        self._count_header(len(name) + len(value))

    def on_headers_complete(self) -> None:
        self._request.method = self._parser.get_method().decode("latin-1")
        self._request.keep_alive = self._parser.should_keep_alive()
        if self._request.headers.get("expect", "").lower() == "100-continue" and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > self._max_body_bytes:
            self._refusal = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self._refusal:
            return
        self._request.body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._waiting.append(self._request)
        if len(self._waiting) > _MAX_WAITING:
            self._refusal = HTTPStatus.BAD_REQUEST
        self._fresh_request()

    # --- inside

    def _fresh_request(self) -> None:
        self._request = Request()
        self._header_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > _MAX_HEADER_BYTES:
            self._refusal = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE

    def _dispatch(self) -> None:
        self._is_dispatching = True
        while self._waiting and self._current is None and not self.is_gone:
            self._current = self._waiting.popleft()
            self._handle(self._current, self)
        self._is_dispatching = False
        if self._refusal and self._current is None and not self._waiting:
            self._refuse(self._refusal)

    def _refuse(self, status: int) -> None:
        self._write(_STATUS_LINES[status] + b"content-length: 0\r\nconnection: close\r\n\r\n")
        self.cut()

    def _head(self, status: int, headers: bytes) -> bytes:
        keep_alive = self._current is None or self._current.keep_alive
        return _STATUS_LINES[status] + headers + (b"\r\n" if keep_alive else b"connection: close\r\n\r\n")

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
