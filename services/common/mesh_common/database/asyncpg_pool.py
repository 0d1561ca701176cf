"""asyncpg's own pool, for a service all of whose SQL is `Statement`s."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg
import orjson

from mesh_common.database import asyncpg_driver
from mesh_common.database.pool import Pool
from mesh_common.database.postgres import Database
from mesh_common.database.waiting import PoolQueue
from mesh_common.process.metrics import DATABASE_POOL
from mesh_common.process.settings import GrpcSettings
from mesh_common.subject import Subject


class AsyncpgPool:
    """`Connections` on a pool of asyncpg, with nothing between it and the statements."""

    def __init__(self, pool: asyncpg.Pool, timeout_s: float, name: str = "main") -> None:
        self._pool = pool
        self._timeout_s = timeout_s
        self._queue = PoolQueue(name, self._is_full)

    async def take(self) -> asyncpg.Connection:
        return await self._queue.take(lambda: self._pool.acquire(timeout=self._timeout_s))

    def _is_full(self) -> bool:
        pool = self._pool
        return bool(pool.get_idle_size() == 0 and pool.get_size() == pool.get_max_size())

    async def begin(self, connection: asyncpg.Connection, role: str, subject: Subject | None) -> None:
        await asyncpg_driver.begin(connection, role, subject)

    async def commit(self, connection: asyncpg.Connection) -> None:
        await asyncpg_driver.commit(connection)

    async def release(self, connection: asyncpg.Connection, error: BaseException | None) -> None:
        # The pool's proxy of a connection that was lost raises this, also for the test whether it is in a transaction.
        with suppress(asyncpg.InterfaceError):
            await asyncpg_driver.leave_transaction(connection, error)
        await self._pool.release(connection)

    def is_dead(self, error: BaseException) -> bool:
        return asyncpg_driver.is_dead(error)

    def is_unavailable(self, error: BaseException) -> bool:
        return asyncpg_driver.is_unavailable(error)


@asynccontextmanager
async def open_database(
    settings: GrpcSettings, *, schema: str, pool: Pool
) -> AsyncIterator[Database[asyncpg.Connection]]:
    """The database while open. Connects lazily, and closes connections that are idle for five minutes."""
    timeout_s = settings.database_timeout_s
    opened = asyncpg.create_pool(
        settings.database_url.get_secret_value(),
        min_size=0,
        max_size=pool.size + pool.max_overflow,
        init=_decode_json,
        reset=_keep,
        **asyncpg_driver.connect_args(timeout_s),
    )
    DATABASE_POOL.labels(pool.name, "in_use").set_function(lambda: opened.get_size() - opened.get_idle_size())
    DATABASE_POOL.labels(pool.name, "idle").set_function(opened.get_idle_size)
    try:
        yield Database(AsyncpgPool(await opened, timeout_s, pool.name), schema)
    finally:
        # Waits for the connections in use, and then terminates them.
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(timeout_s):
                await opened.close()


async def _decode_json(connection: asyncpg.Connection) -> None:
    """Results contain decoded values, as SQLAlchemy's connections return them."""
    for name in ("json", "jsonb"):
        await connection.set_type_codec(name, schema="pg_catalog", encoder=str, decoder=orjson.loads)


async def _keep(_: asyncpg.Connection) -> None:
    """asyncpg's own reset costs a round trip. Nothing here outlives a transaction."""
