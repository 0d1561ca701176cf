"""Opens the simulator in the running loop, for its own process and for tests that run it in theirs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from simulator.app import Simulator
from simulator.http_server import Connection
from simulator.pacing import Clock, LoopTimers, TickWheel
from simulator.settings import SimulatorSettings

# A load test opens all its connections at once.
_BACKLOG = 4096


@asynccontextmanager
async def open_simulator(settings: SimulatorSettings) -> AsyncIterator[str]:
    """Yields the base URL, `http://host:port`. At the end of the block, open streams are cut off immediately."""
    loop = asyncio.get_running_loop()
    simulator = Simulator(settings, _clock(settings, loop))
    connections: set[Connection] = set()
    server = await loop.create_server(
        lambda: Connection(simulator.handle, connections, settings.max_body_bytes),
        settings.host,
        settings.port,
        backlog=_BACKLOG,
    )
    try:
        yield f"http://{settings.host}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for connection in tuple(connections):
            connection.abort()
        await server.wait_closed()


def _clock(settings: SimulatorSettings, loop: asyncio.AbstractEventLoop) -> Clock:
    return TickWheel(loop, settings.tick_ms / 1000) if settings.tick_ms else LoopTimers(loop)
