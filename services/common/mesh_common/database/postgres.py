"""PostgreSQL: the pool of a service, and its two roles.

A login of a service may do nothing by itself (NOINHERIT): each transaction takes the role `<svc>_app` with a subject,
whose rows alone it then sees, or `<svc>_worker` for work across users (DESIGN §5).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, Literal

import asyncpg
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from mesh_common.database.text_rules import TEXT_SQL, text_fault
from mesh_common.database.transactions import DRIVER_ERRORS, AsyncpgTransactions, SqlAlchemyTransactions, Transactions
from mesh_common.database.unit_of_work import UNMIGRATED_CLASSES, UnitOfWork, sqlstate
from mesh_common.errors import MeshError
from mesh_common.process.metrics import DATABASE_POOL
from mesh_common.process.settings import GrpcSettings
from mesh_common.subject import Subject

Driver = Literal["asyncpg", "psycopg"]
# A process that is frozen in a transaction must not hold its locks for as long as its connection lives.
_IDLE_IN_TRANSACTION_PER_TIMEOUT = 2

# psycopg has no deadline of its own on a statement, and a listener only hears: a server that is gone without a word (a
# pulled cable, a NAT that forgot the connection) is noticed by the system's probes alone. After 10 s of silence one
# every 5 s, three unanswered are the end; the same for what was sent and never acknowledged.
LIBPQ_KEEPALIVE: Final[dict[str, Any]] = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}


class Database:
    """The pool of one service. Bounded, with a deadline on waiting, connecting and each statement."""

    def __init__(self, engine: AsyncEngine, schema: str, transactions: Transactions) -> None:
        self.engine = engine
        self.schema = schema
        self._transactions = transactions
        self._is_text_checked = False

    def as_subject(self, subject: Subject) -> AbstractAsyncContextManager[AsyncConnection]:
        """One transaction that sees and writes rows of this user in this organisation; commits at the block's end."""
        return UnitOfWork(self.engine, self._transactions, f"{self.schema}_app", subject)

    def as_worker(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """One transaction across users: claims, queues, retention, login. Never for a request's own reads."""
        return UnitOfWork(self.engine, self._transactions, f"{self.schema}_worker", None)

    async def not_ready_reason(self, required_revision: str, timeout_s: float = 2.0) -> str | None:
        """None when the schema is at least at `required_revision`; ahead is fine, so that a rollback can start.

        The database's encoding and locale are asked for until they were right once: they do not change.
        """
        try:
            async with asyncio.timeout(timeout_s), self.as_worker() as connection:
                statement = text(f"SELECT version_num FROM {self.schema}.alembic_version")  # noqa: S608 - our own name
                revision = (await connection.execute(statement)).scalar_one_or_none()
                if fault := await self._text_fault(connection):
                    return fault
        except (MeshError, TimeoutError) as error:
            is_missing = sqlstate(error.__cause__).startswith(UNMIGRATED_CLASSES)
            return "the schema is not migrated" if is_missing else "PostgreSQL cannot be reached"
        except (DBAPIError, *DRIVER_ERRORS):
            return "the schema is not migrated"
        return None if revision and int(revision) >= int(required_revision) else "the schema is older than the code"

    async def _text_fault(self, connection: AsyncConnection) -> str | None:
        if self._is_text_checked:
            return None
        fault = text_fault(*(await connection.execute(text(TEXT_SQL))).one())
        self._is_text_checked = fault is None
        return fault


@asynccontextmanager
async def open_database(
    settings: GrpcSettings, *, schema: str, driver: Driver = "asyncpg", pool_share: float = 1.0
) -> AsyncIterator[Database]:
    """The pool while open. Connects lazily: a service starts, unready, while PostgreSQL is away.

    `pool_share`: how much of the connections that the settings allow is this pool's, where a service has two.
    """
    url = settings.database_url.get_secret_value()
    is_asyncpg = driver == "asyncpg"
    engine = open_engine(
        url,
        driver,
        _connect_args(driver, settings.database_timeout_s),
        pool_size=max(1, round(settings.database_pool_size * pool_share)),
        max_overflow=round(settings.database_max_overflow * pool_share),
        pool_timeout=settings.database_timeout_s,
        pool_use_lifo=True,
        hide_parameters=True,
        **({"isolation_level": "AUTOCOMMIT"} if is_asyncpg else {}),
    )
    _observe_pool(engine)
    if settings.otlp_endpoint:
        # Spans of statements: their text has placeholders only. It supports SQLAlchemy below 2.1, and says nothing
        # when it does not: a test holds that spans come.
        SQLAlchemyInstrumentor().instrument(engine=engine.sync_engine)
    try:
        yield Database(engine, schema, AsyncpgTransactions() if is_asyncpg else SqlAlchemyTransactions())
    finally:
        await engine.dispose()


def open_engine(url: str, driver: Driver, connect_args: dict[str, Any], **engine_args: Any) -> AsyncEngine:
    """An engine for a libpq URL, whatever the driver: `sslmode`, `sslrootcert` and `options` mean the same to both.

    SQLAlchemy hands a URL's parameters to asyncpg as arguments, which it refuses; asyncpg's own reading knows them.
    """
    if driver == "psycopg":
        return create_async_engine(with_driver(url, driver), connect_args=connect_args, **engine_args)

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(url, **connect_args)

    return create_async_engine(with_driver(url, driver).partition("?")[0], async_creator=connect, **engine_args)


def with_driver(url: str, driver: Driver) -> str:
    """`postgresql://…` with the SQLAlchemy driver to use. Raises ValueError for another scheme."""
    scheme, separator, rest = url.partition("://")
    if scheme not in {"postgresql", "postgres"} or not separator:
        raise ValueError("the database URL must start with postgresql://")
    return f"postgresql+{driver}://{rest}"


def _connect_args(driver: Driver, timeout_s: float) -> dict[str, object]:
    timeout_ms = int(timeout_s * 1000)
    server_settings = {
        "statement_timeout": str(timeout_ms),
        "idle_in_transaction_session_timeout": str(timeout_ms * _IDLE_IN_TRANSACTION_PER_TIMEOUT),
        "jit": "off",
    }
    if driver == "asyncpg":
        return {"timeout": timeout_s, "command_timeout": timeout_s, "server_settings": server_settings}
    options = " ".join(f"-c {name}={value}" for name, value in server_settings.items())
    return {"connect_timeout": max(2, int(timeout_s)), "options": options, **LIBPQ_KEEPALIVE}


def _observe_pool(engine: AsyncEngine) -> None:
    pool = engine.pool
    if isinstance(pool, AsyncAdaptedQueuePool):
        DATABASE_POOL.labels(engine.driver, "in_use").set_function(pool.checkedout)
        DATABASE_POOL.labels(engine.driver, "idle").set_function(pool.checkedin)
