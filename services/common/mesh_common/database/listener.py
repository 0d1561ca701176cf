"""LISTEN on a connection of its own."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg
import structlog

from mesh_common.database.asyncpg_driver import DRIVER_ERRORS

log = structlog.get_logger()

_RETRY_S: Final = 1.0
_TIMEOUT_S: Final = 5.0
# A listener only receives. If its server vanishes silently (a pulled cable, a NAT that forgot the connection), only a
# statement without a response shows it.
_PING_EVERY_S: Final = 10.0


class Listener:
    """Calls `wake` for each notification on `channel`. `run` listens until cancelled and reconnects when it has to.

    Notifications sent meanwhile are lost, so the work that they announce must also be polled for.
    """

    def __init__(
        self,
        database_url: str,
        channel: str,
        wake: Callable[[], None],
        *,
        ping_every_s: float = _PING_EVERY_S,
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        """`timeout_s` for connecting and for the response to a ping."""
        self._url = database_url
        self._channel = channel
        self._wake = wake
        self._ping_every_s = ping_every_s
        self._timeout_s = timeout_s

    async def run(self) -> None:
        while True:
            try:
                async with _connected(self._url, self._timeout_s) as connection:
                    await self._listen(connection)
            except (*DRIVER_ERRORS, OSError, TimeoutError) as error:
                log.warning("listener.lost", channel=self._channel, error=type(error).__name__)
            await asyncio.sleep(_RETRY_S)

    async def _listen(self, connection: asyncpg.Connection) -> None:
        """Returns when the connection is closed, and raises when it does not respond."""
        closed = asyncio.Event()
        connection.add_termination_listener(lambda _: closed.set())
        await connection.add_listener(self._channel, self._notified)
        while not closed.is_set():
            try:
                async with asyncio.timeout(self._ping_every_s):
                    await closed.wait()
            except TimeoutError:
                await connection.execute("SELECT 1")
        log.warning("listener.lost", channel=self._channel, error="closed")

    def _notified(self, *_: Any) -> None:
        self._wake()


@asynccontextmanager
async def _connected(url: str, timeout_s: float) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url, timeout=timeout_s, command_timeout=timeout_s)
    try:
        yield connection
    finally:
        # A farewell could wait for a server that no longer responds.
        connection.terminate()
