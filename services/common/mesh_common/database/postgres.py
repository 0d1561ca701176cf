"""PostgreSQL: the connection pool of a service, and its two roles.

The login of a service has no privileges of its own (NOINHERIT). Each transaction takes the role `<svc>_app` with a
subject and sees only that subject's rows, or the role `<svc>_worker` for work across users.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

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
# A process that freezes inside a transaction must not hold its locks until its connection ends.
_IDLE_IN_TRANSACTION_PER_TIMEOUT = 2

# psycopg sets no deadline on a statement, and a listener only receives. If the server vanishes silently (a pulled
# cable, a NAT that forgot the connection), only TCP keepalive notices: after 10 s of silence it probes every 5 s and
# gives up after three unanswered probes. Sent data that stays unacknowledged for 25 s ends the connection as well.
LIBPQ_KEEPALIVE: Final[dict[str, Any]] = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}


@dataclass(frozen=True, slots=True)
class Pool:
    """The bounds of one pool of a service. `name` labels its metrics."""

    name: str
    size: int
    max_overflow: int = 0

    @classmethod
    def share_of(cls, settings: GrpcSettings, name: str, share: float) -> Self:
        """A share (0..1) of the connections that the settings allow, at least one."""
        size = max(1, round(settings.database_pool_size * share))
        return cls(name, size, round(settings.database_max_overflow * share))


class Database:
    """The connection pool of one service. Bounded, with deadlines for waiting, connecting and each statement."""

    def __init__(self, engine: AsyncEngine, schema: str, transactions: Transactions) -> None:
        self.engine = engine
        self.schema = schema
        self._transactions = transactions
        self._is_text_checked = False

    def as_subject(self, subject: Subject) -> AbstractAsyncContextManager[AsyncConnection]:
        """One transaction that reads and writes the rows of this user in this organisation; commits at the end."""
        return UnitOfWork(self.engine, self._transactions, f"{self.schema}_app", subject)

    def as_worker(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """One transaction across users: claims, queues, retention, login. Never for a request's own reads."""
        return UnitOfWork(self.engine, self._transactions, f"{self.schema}_worker", None)

    async def not_ready_reason(self, required_revision: str, timeout_s: float = 2.0) -> str | None:
        """None if the schema is at `required_revision` or newer, so that a release that was rolled back can start.

        Also checks the database's encoding and locale until they were right once: they do not change.
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
    settings: GrpcSettings, *, schema: str, driver: Driver = "asyncpg", pool: Pool | None = None
) -> AsyncIterator[Database]:
    """The pool while open. Connects lazily: without PostgreSQL a service starts, but is not ready.

    `pool`: for a service with several; otherwise one with the size of the settings.
    """
    pool = pool or Pool("main", settings.database_pool_size, settings.database_max_overflow)
    url = settings.database_url.get_secret_value()
    is_asyncpg = driver == "asyncpg"
    engine = open_engine(
        url,
        driver,
        _connect_args(driver, settings.database_timeout_s),
        pool_size=pool.size,
        max_overflow=pool.max_overflow,
        pool_timeout=settings.database_timeout_s,
        pool_use_lifo=True,
        hide_parameters=True,
        **({"isolation_level": "AUTOCOMMIT"} if is_asyncpg else {}),
    )
    _observe_pool(engine, pool.name)
    if settings.otlp_endpoint:
        # Spans of statements contain placeholders, not values. The instrumentation supports SQLAlchemy below 2.1 and
        # does nothing, silently, with other versions: a test checks that there are spans.
        SQLAlchemyInstrumentor().instrument(engine=engine.sync_engine)
    try:
        yield Database(engine, schema, AsyncpgTransactions() if is_asyncpg else SqlAlchemyTransactions())
    finally:
        await engine.dispose()


def open_engine(url: str, driver: Driver, connect_args: dict[str, Any], **engine_args: Any) -> AsyncEngine:
    """An engine for a libpq URL: `sslmode`, `sslrootcert` and `options` mean the same with both drivers.

    SQLAlchemy would pass the parameters of the URL to asyncpg as arguments, which asyncpg rejects. asyncpg understands
    them when it parses the URL itself.
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


def _observe_pool(engine: AsyncEngine, name: str) -> None:
    pool = engine.pool
    if isinstance(pool, AsyncAdaptedQueuePool):
        DATABASE_POOL.labels(name, "in_use").set_function(pool.checkedout)
        DATABASE_POOL.labels(name, "idle").set_function(pool.checkedin)
