"""The connections of langgraph-checkpoint-postgres, which works with psycopg alone.

Opened at first use: only turns with tools write checkpoints.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from contextvars import Context
from typing import Any, Final

import psycopg
from mesh_common.database.connections import ids_of, is_unavailable_state, session_settings, sqlstate
from mesh_common.database.pool import Pool
from mesh_common.database.unit_of_work import UnitOfWork
from mesh_common.process.metrics import DATABASE_POOL
from mesh_common.process.settings import GrpcSettings
from mesh_common.subject import Subject
from psycopg.pq import TransactionStatus
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

type CheckpointConnection = psycopg.AsyncConnection[DictRow]

_TAKE_ROLE: Final = (
    "SELECT set_config('role', %s, true), set_config('mesh.user_id', %s, true), set_config('mesh.org_id', %s, true)"
)
# A safe point writes a dozen statements at most. psycopg sets no deadline on a statement, and a server that hangs may
# still acknowledge what it receives.
_TIMEOUTS_PER_TRANSACTION: Final = 3
# If the server vanishes silently, TCP keepalive notices: after 10 s of silence it probes every 5 s and gives up after
# three unanswered probes. Sent data that stays unacknowledged for 25 s ends the connection as well.
_KEEPALIVE: Final[dict[str, Any]] = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
_MIN_CONNECT_TIMEOUT_S: Final = 2  # libpq's own minimum
# Class 08: connection; 57P: the server stops or has crashed.
_DEAD_CLASSES: Final = ("08", "57P")
# After these, a statement may still be running.
_CUT: Final = (asyncio.CancelledError, TimeoutError, GeneratorExit)


class CheckpointDatabase:
    """The tables of checkpoints, as a subject."""

    def __init__(self, connections: "PsycopgPool", schema: str, timeout_s: float) -> None:
        self._connections = connections
        self._role = f"{schema}_app"
        self._timeout_s = timeout_s * _TIMEOUTS_PER_TRANSACTION

    @asynccontextmanager
    async def as_subject(self, subject: Subject) -> AsyncIterator[CheckpointConnection]:
        """One transaction that reads and writes the rows of this user in this organisation; commits at the end.

        Raises Unavailable also if the block takes longer than three times the database's timeout.
        """
        async with (
            UnitOfWork(self._connections, self._role, subject) as connection,
            asyncio.timeout(self._timeout_s),
        ):
            yield connection


class PsycopgPool:
    """`Connections` on a pool of psycopg."""

    def __init__(self, pool: AsyncConnectionPool[CheckpointConnection], timeout_s: float) -> None:
        self._pool = pool
        self._timeout_s = timeout_s

    async def take(self) -> CheckpointConnection:
        if self._pool.closed:
            # The pool's own tasks must not belong to the run that happens to be the first.
            await asyncio.get_running_loop().create_task(self._pool.open(), context=Context())
        return await self._pool.getconn()

    async def begin(self, connection: CheckpointConnection, role: str, subject: Subject | None) -> None:
        org_id, user_id = ids_of(subject)
        async with asyncio.timeout(self._timeout_s):
            await connection.execute(_TAKE_ROLE, (role, user_id, org_id))

    async def commit(self, connection: CheckpointConnection) -> None:
        # If a statement failed and the caller continued, PostgreSQL rolls back and reports no error.
        if connection.info.transaction_status == TransactionStatus.INERROR:
            raise AssertionError("a transaction was committed in which a statement had failed")
        async with asyncio.timeout(self._timeout_s):
            await connection.commit()

    async def release(self, connection: CheckpointConnection, error: BaseException | None) -> None:
        if isinstance(error, _CUT) or not await self._is_rolled_back(connection):
            await connection.close()
        was_lost = connection.broken
        await self._pool.putconn(connection)
        if was_lost:
            # Whatever broke it has probably broken the idle ones as well.
            await self._pool.drain()

    async def _is_rolled_back(self, connection: CheckpointConnection) -> bool:
        with suppress(psycopg.Error, TimeoutError):
            async with asyncio.timeout(self._timeout_s):
                await connection.rollback()
            return True
        return False

    def is_dead(self, error: BaseException) -> bool:
        if isinstance(error, PoolTimeout) or not isinstance(error, psycopg.OperationalError):
            return False
        return not sqlstate(error) or sqlstate(error).startswith(_DEAD_CLASSES)

    def is_unavailable(self, error: BaseException) -> bool:
        if isinstance(error, (OSError, TimeoutError)) or self.is_dead(error):
            return True
        return isinstance(error, PoolTimeout) or (
            isinstance(error, psycopg.Error) and is_unavailable_state(sqlstate(error))
        )


@asynccontextmanager
async def open_checkpoint_database(
    settings: GrpcSettings, *, schema: str, pool: Pool
) -> AsyncIterator[CheckpointDatabase]:
    """The database while open."""
    timeout_s = settings.database_timeout_s
    opened: AsyncConnectionPool[CheckpointConnection] = AsyncConnectionPool(
        settings.database_url.get_secret_value(),
        kwargs=_connect_args(timeout_s),
        min_size=0,
        max_size=pool.size + pool.max_overflow,
        open=False,
        name=pool.name,
        timeout=timeout_s,
        # The pause between attempts doubles. A pool that gives up soon starts anew with a short one at its next use.
        reconnect_timeout=timeout_s,
    )
    DATABASE_POOL.labels(pool.name, "in_use").set_function(lambda: _size(opened) - _idle(opened))
    DATABASE_POOL.labels(pool.name, "idle").set_function(lambda: _idle(opened))
    try:
        yield CheckpointDatabase(PsycopgPool(opened, timeout_s), schema, timeout_s)
    finally:
        await opened.close(timeout=timeout_s)


def _connect_args(timeout_s: float) -> dict[str, Any]:
    return {
        "connect_timeout": max(_MIN_CONNECT_TIMEOUT_S, int(timeout_s)),
        "options": " ".join(f"-c {name}={value}" for name, value in session_settings(timeout_s).items()),
        "row_factory": dict_row,
        **_KEEPALIVE,
    }


def _size(pool: AsyncConnectionPool[Any]) -> int:
    return pool.get_stats().get("pool_size", 0)


def _idle(pool: AsyncConnectionPool[Any]) -> int:
    return pool.get_stats().get("pool_available", 0)
