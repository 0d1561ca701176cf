"""Listens for pending runs (LISTEN/NOTIFY), so that an idle replica claims them in milliseconds, not at its next
poll."""

import asyncio
from collections.abc import Callable

import psycopg
import structlog
from mesh_common.database.postgres import LIBPQ_KEEPALIVE
from psycopg.rows import TupleRow

from mesh_agent.store.claims import CHANNEL

log = structlog.get_logger()

_RETRY_S = 1.0
_CONNECT_TIMEOUT_S = 5


class PendingListener:
    """`run` listens until cancelled and reconnects after a lost connection.

    Polling continues in parallel, so a lost notification only delays a run by a second.
    """

    def __init__(self, database_url: str, wake: Callable[[], None]) -> None:
        self._url = database_url
        self._wake = wake

    async def run(self) -> None:
        while True:
            try:
                await self._listen()
            except psycopg.OperationalError:
                log.warning("pending_listener.lost")
            await asyncio.sleep(_RETRY_S)

    async def _listen(self) -> None:
        async with await connect(self._url) as connection:
            await connection.execute(f"LISTEN {CHANNEL}")
            async for _ in connection.notifies():
                self._wake()


async def connect(database_url: str) -> psycopg.AsyncConnection[TupleRow]:
    """A connection that notices within half a minute if its server disappears without closing it."""
    return await psycopg.AsyncConnection.connect(
        database_url,
        autocommit=True,
        connect_timeout=_CONNECT_TIMEOUT_S,
        **LIBPQ_KEEPALIVE,
    )
