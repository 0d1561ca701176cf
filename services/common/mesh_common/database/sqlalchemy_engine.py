"""SQLAlchemy's engine on asyncpg, for services that assemble statements.

Transactions bypass SQLAlchemy: BEGIN and the role take one round trip instead of two, and each of the three steps costs
a quarter of the CPU.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from mesh_common.database import asyncpg_driver
from mesh_common.database.connections import is_unavailable_state, sqlstate
from mesh_common.database.pool import Pool
from mesh_common.database.postgres import Database
from mesh_common.database.statements import driver_of
from mesh_common.database.waiting import PoolQueue
from mesh_common.process.metrics import DATABASE_POOL
from mesh_common.process.settings import GrpcSettings
from mesh_common.subject import Subject


class EngineConnections:
    """`Connections` on an engine in AUTOCOMMIT, in which SQLAlchemy begins and commits nothing itself."""

    def __init__(self, engine: AsyncEngine, bounds: Pool) -> None:
        self._engine = engine
        self._most = bounds.size + bounds.max_overflow
        self._queue = PoolQueue(bounds.name, self._is_full)

    async def take(self) -> AsyncConnection:
        return await self._queue.take(self._connected)

    async def _connected(self) -> AsyncConnection:
        return await self._engine.connect()

    def _is_full(self) -> bool:
        pool = self._engine.pool
        return isinstance(pool, AsyncAdaptedQueuePool) and pool.checkedout() >= self._most

    async def begin(self, connection: AsyncConnection, role: str, subject: Subject | None) -> None:
        await asyncpg_driver.begin(driver_of(connection), role, subject)

    async def commit(self, connection: AsyncConnection) -> None:
        await asyncpg_driver.commit(driver_of(connection))

    async def release(self, connection: AsyncConnection, error: BaseException | None) -> None:
        if not connection.invalidated:
            driver = driver_of(connection)
            await asyncpg_driver.leave_transaction(driver, error)
            if driver.is_closed():
                await connection.invalidate()
        await connection.close()

    def is_dead(self, error: BaseException) -> bool:
        if not isinstance(error, DBAPIError):
            return asyncpg_driver.is_dead(error)
        is_unanswered = (
            error.statement is not None
            and not getattr(error.orig, "sqlstate", None)
            and isinstance(error, OperationalError)
        )
        return error.connection_invalidated or is_unanswered

    def is_unavailable(self, error: BaseException) -> bool:
        if isinstance(error, PoolTimeoutError):
            return True
        if not isinstance(error, DBAPIError):
            # SQLAlchemy does not wrap errors that asyncpg raises on connecting, nor those of `statements`, which bypass
            # it.
            return asyncpg_driver.is_unavailable(error)
        if error.connection_invalidated or isinstance(error, InterfaceError):
            return True
        code = sqlstate(error)
        if not code and error.statement is None:
            # The driver failed before any statement, so the connection from the pool is broken. The pool has closed it
            # by now.
            return True
        return is_unavailable_state(code) or (not code and isinstance(error, OperationalError))


@asynccontextmanager
async def open_database(
    settings: GrpcSettings, *, schema: str, pool: Pool | None = None
) -> AsyncIterator[Database[AsyncConnection]]:
    """The database while open. Connects lazily: without PostgreSQL a service starts, but is not ready."""
    pool = pool or Pool.of(settings)
    engine = open_engine(
        settings.database_url.get_secret_value(),
        asyncpg_driver.connect_args(settings.database_timeout_s),
        isolation_level="AUTOCOMMIT",
        pool_size=pool.size,
        max_overflow=pool.max_overflow,
        pool_timeout=settings.database_timeout_s,
        pool_use_lifo=True,
        hide_parameters=True,
    )
    _observe_pool(engine, pool.name)
    if settings.otlp_endpoint:
        # Spans of statements contain placeholders, not values. The instrumentation supports SQLAlchemy below 2.1 and
        # does nothing, silently, with other versions: a test checks that there are spans.
        SQLAlchemyInstrumentor().instrument(engine=engine.sync_engine)
    try:
        yield Database(EngineConnections(engine, pool), schema)
    finally:
        await engine.dispose()


def open_engine(url: str, connect_args: dict[str, Any], **engine_args: Any) -> AsyncEngine:
    """An engine for a libpq URL.

    asyncpg parses the URL itself and understands `sslmode`, `sslrootcert` and `options`. SQLAlchemy would pass them to
    it as arguments, which it rejects. Raises ValueError unless the URL starts with postgresql://.
    """

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(url, **connect_args)

    scheme, separator, rest = url.partition("://")
    if scheme not in {"postgresql", "postgres"} or not separator:
        raise ValueError("the database URL must start with postgresql://")
    address = rest.partition("?")[0]
    return create_async_engine(f"postgresql+asyncpg://{address}", async_creator=connect, **engine_args)


def _observe_pool(engine: AsyncEngine, name: str) -> None:
    pool = engine.pool
    if isinstance(pool, AsyncAdaptedQueuePool):
        DATABASE_POOL.labels(name, "in_use").set_function(pool.checkedout)
        DATABASE_POOL.labels(name, "idle").set_function(pool.checkedin)
