"""Beginning and ending transactions, by driver.

Transactions on asyncpg bypass SQLAlchemy: BEGIN and the role take one round trip instead of two, and each of the three
steps costs a quarter of the CPU.
"""

import asyncio
from contextlib import suppress
from typing import Final, Protocol
from uuid import UUID

import asyncpg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from mesh_common.database.statements import driver_of
from mesh_common.subject import Subject

_TAKE_ROLE: Final = text(
    "SELECT set_config('role', :role, true), set_config('mesh.user_id', :user_id, true),"
    " set_config('mesh.org_id', :org_id, true)"
)
# Only ids and a role name from our own code are inserted. The simple protocol, which accepts two statements at once,
# has no parameters.
_BEGIN: Final = (
    "BEGIN; SELECT set_config('role', '{role}', true), set_config('mesh.user_id', '{user_id}', true),"
    " set_config('mesh.org_id', '{org_id}', true)"
)


DRIVER_ERRORS: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
# A server that shuts down announces it on idle connections too. Until such a connection is closed, asyncpg takes the
# announcement for the response to a request and raises InternalClientError.
_DEAD: Final = (
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
)


class Transactions(Protocol):
    async def begin(self, connection: AsyncConnection, role: str, subject: Subject | None) -> None:
        """Begins a transaction with the role. It sees the rows of the subject, or those of no user if there is none."""

    async def commit(self, connection: AsyncConnection) -> None: ...

    async def release(self, connection: AsyncConnection, *, is_cut: bool) -> None:
        """Rolls back unless committed, and returns the connection to the pool. A broken connection is discarded.

        `is_cut`: a statement may still be running, and nothing waits for its end.
        """


class SqlAlchemyTransactions:
    """For any driver."""

    async def begin(self, connection: AsyncConnection, role: str, subject: Subject | None) -> None:
        org_id, user_id = _ids(subject)
        await connection.execute(_TAKE_ROLE, {"role": role, "user_id": user_id, "org_id": org_id})

    async def commit(self, connection: AsyncConnection) -> None:
        await connection.commit()

    async def release(self, connection: AsyncConnection, *, is_cut: bool) -> None:
        del is_cut  # SQLAlchemy detects it itself
        try:
            await connection.close()
        except DBAPIError:
            # Otherwise its slot in the pool would stay occupied.
            await connection.invalidate()
            await connection.close()


class AsyncpgTransactions:
    """For an engine in AUTOCOMMIT, in which SQLAlchemy begins and commits nothing itself."""

    async def begin(self, connection: AsyncConnection, role: str, subject: Subject | None) -> None:
        org_id, user_id = _ids(subject)
        driver = driver_of(connection)
        await driver.execute(_BEGIN.format(role=role, user_id=user_id, org_id=org_id))

    async def commit(self, connection: AsyncConnection) -> None:
        driver = driver_of(connection)
        # If a statement failed and the caller continued, PostgreSQL answers with ROLLBACK and not with an error.
        if await driver.execute("COMMIT") != "COMMIT":
            raise AssertionError("a transaction was committed in which a statement had failed")

    async def release(self, connection: AsyncConnection, *, is_cut: bool) -> None:
        if not connection.invalidated:
            driver = driver_of(connection)
            if is_cut:
                driver.terminate()
            elif driver.is_in_transaction():
                await _roll_back(driver)
            if driver.is_closed():
                await connection.invalidate()
        await connection.close()


def _ids(subject: Subject | None) -> tuple[str, str]:
    """The ids of the organisation and the user. Built from integers, so that they cannot inject SQL."""
    if subject is None:
        return "", ""
    return str(UUID(int=subject.organisation_id.int)), str(UUID(int=subject.user_id.int))


async def _roll_back(driver: asyncpg.Connection) -> None:
    """Terminates the connection if it cannot roll back."""
    with suppress(*DRIVER_ERRORS, OSError, TimeoutError):
        await driver.execute("ROLLBACK")
        return
    driver.terminate()


def has_cut(error: BaseException | None) -> bool:
    """Whether the error leaves a statement without its response, or a connection out of step with the protocol."""
    cut = asyncio.CancelledError | TimeoutError | GeneratorExit | asyncpg.InternalClientError
    return isinstance(error, cut)


def is_dead(error: BaseException) -> bool:
    """Whether this one connection of the pool is dead, so that another one may work.

    Not a failure to connect, and not an error that the server returned.
    """
    if not isinstance(error, DBAPIError):
        return isinstance(error, _DEAD)
    is_unanswered = (
        error.statement is not None
        and not getattr(error.orig, "sqlstate", None)
        and isinstance(error, OperationalError)
    )
    return error.connection_invalidated or is_unanswered
