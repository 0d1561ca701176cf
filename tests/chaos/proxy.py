"""A TCP proxy that fails on request, to simulate a bad network between two processes."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, Literal

from mesh_dev.wait import LOOPBACK

type Side = Literal["client", "server"]

_CHUNK_BYTES: Final = 65_536
_NO_LINGER: Final = struct.pack("ii", 1, 0)


@dataclass(eq=False, slots=True)
class _Pipe:
    """One connection through the proxy: the client's end and the server's."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter

    def end(self, side: Side) -> asyncio.StreamWriter:
        return self.client if side == "client" else self.server

    def reset(self) -> None:
        for writer in (self.client, self.server):
            _reset(writer)


@dataclass(eq=False)
class FaultProxy:
    """Passes bytes between its own port and another. Its faults apply to all connections, old and new."""

    name: str
    target_port: int
    port: int = 0
    delay_s: float = 0.0
    """How long each chunk is held back, in both directions."""
    bytes_per_s: float = 0.0
    """The speed of each direction of a connection; 0 is unlimited."""
    resets_new: bool = False
    _open: dict[Side, asyncio.Event] = field(default_factory=lambda: {"client": _set(), "server": _set()})
    _pipes: set[_Pipe] = field(default_factory=set)
    _server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, LOOPBACK, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self.clean()
        if self._server:
            self._server.close()
            self.reset()
            await self._server.wait_closed()

    @property
    def open_connections(self) -> int:
        return len(self._pipes)

    def partition(self, *towards: Side) -> None:
        """Holds bytes towards these sides, or both if none is named, until `clean`; as in TCP, none are lost."""
        for side in towards or ("client", "server"):
            self._open[side].clear()

    def reset(self) -> None:
        """Closes every connection with a RST."""
        for pipe in tuple(self._pipes):
            pipe.reset()

    def half_close(self, towards: Side) -> None:
        """Sends EOF to this side, and leaves the other direction open."""
        for pipe in tuple(self._pipes):
            writer = pipe.end(towards)
            if writer.can_write_eof() and not writer.is_closing():
                with suppress(OSError):
                    writer.write_eof()

    def clean(self) -> None:
        """Removes all faults."""
        self.delay_s = self.bytes_per_s = 0.0
        self.resets_new = False
        for gate in self._open.values():
            gate.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.resets_new:
            _reset(writer)
            return
        # In a real partition a SYN is not answered. Here the connection is accepted, but nothing follows.
        await self._open["server"].wait()
        try:
            far_reader, far_writer = await asyncio.open_connection(LOOPBACK, self.target_port)
        except OSError:
            _reset(writer)
            return
        pipe = _Pipe(writer, far_writer)
        self._pipes.add(pipe)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, far_writer, "server"))
                group.create_task(self._pump(far_reader, writer, "client"))
        finally:
            self._pipes.discard(pipe)
            for end in (writer, far_writer):
                end.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, towards: Side) -> None:
        try:
            while chunk := await reader.read(_CHUNK_BYTES):
                await self._hold_back(len(chunk), towards)
                writer.write(chunk)
                await writer.drain()
            await self._open[towards].wait()
            if not writer.is_closing():
                writer.write_eof()
        except (OSError, RuntimeError):
            # One end has closed, or this direction was already closed, so close the other end.
            _reset(writer)

    async def _hold_back(self, count: int, towards: Side) -> None:
        await self._open[towards].wait()
        pause_s = self.delay_s + (count / self.bytes_per_s if self.bytes_per_s else 0.0)
        if pause_s:
            await asyncio.sleep(pause_s)
            await self._open[towards].wait()


@asynccontextmanager
async def open_proxy(name: str, target_port: int) -> AsyncIterator[FaultProxy]:
    proxy = FaultProxy(name, target_port)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()


def _reset(writer: asyncio.StreamWriter) -> None:
    sock: socket.socket | None = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    writer.transport.abort()


def _set() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event
