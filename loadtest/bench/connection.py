"""HTTP connections with minimal CPU cost, because the load generator shares the machine with the mesh."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Self, cast
from urllib.parse import urlsplit

_LENGTH: Final = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


class Connection(asyncio.Protocol):
    """One request at a time. `closed` is set once the connection is closed."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.closed = False
        self._transport: asyncio.Transport | None = None
        self._data: list[bytes] = []
        self._done: asyncio.Future[None] | None = None

    @classmethod
    async def open(cls, host: str, port: int) -> Self:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: cls(f"{host}:{port}"), host, port)
        return connection

    @property
    def answer(self) -> bytes:
        """The data received so far; incomplete if the server closed the connection or the request timed out."""
        return b"".join(self._data)

    async def ask(self, request: bytes, timeout_s: float) -> bytes:
        """The answer. On TimeoutError the connection is closed and cannot be used again."""
        assert self._transport is not None  # noqa: S101 - it is connected
        self._data = []
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            async with asyncio.timeout(timeout_s):
                await self._done
        except TimeoutError:
            self.close()
            raise
        return self.answer

    def ends_with(self, data: bytes) -> bool:
        """Whether the answer ends with this data."""
        del data
        return is_whole(self.answer)

    def close(self) -> None:
        if self._transport:
            self._transport.close()
        self.closed = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not inherit from asyncio.Transport.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._done is None or self._done.done():
            return
        self._data.append(data)
        if self.ends_with(data):
            self._done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.closed = True
        if self._done and not self._done.done():
            self._done.set_result(None)


class Connections[C: Connection]:
    """Connections of one kind to one server, opened on demand and reused."""

    def __init__(self, kind: type[C], url: str) -> None:
        parts = urlsplit(url)
        self._kind = kind
        self._address = (parts.hostname or "", parts.port or 80)
        self._idle: list[C] = []

    @asynccontextmanager
    async def one(self) -> AsyncIterator[C]:
        """Raises OSError if no connection can be opened."""
        self._idle = [connection for connection in self._idle if not connection.closed]
        connection = self._idle.pop() if self._idle else await self._kind.open(*self._address)
        yield connection
        self._idle.append(connection)

    def close(self) -> None:
        for connection in self._idle:
            connection.close()


def post(host: str, path: str, content_type: str, body: bytes, *, token: str = "") -> bytes:
    """The bytes of a request."""
    authorization = f"authorization: Bearer {token}\r\n" if token else ""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {host}\r\n{authorization}"
        f"content-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def is_whole(answer: bytes) -> bool:
    """Whether an answer with a content-length is complete; False for an answer without one."""
    head, separator, body = answer.partition(b"\r\n\r\n")
    found = _LENGTH.search(head) if separator else None
    return found is not None and len(body) >= int(found[1])


def status_of(answer: bytes) -> int:
    """The HTTP status; 0 if there is no answer."""
    return int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else 0
