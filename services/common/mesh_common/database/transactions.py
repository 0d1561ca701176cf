"""How a transaction begins and ends, by driver.

asyncpg's go past SQLAlchemy: BEGIN and the role are one round trip instead of two, and each of the three steps costs a
quarter of the CPU.
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
# Ids and a name of ours alone go into it: the simple protocol, which takes two statements at once, has no parameters.
_BEGIN: Final = (
    "BEGIN; SELECT set_config('role', '{role}', true), set_config('mesh.user_id', '{user_id}', true),"
    " set_config('mesh.org_id', '{org_id}', true)"
)


DRIVER_ERRORS: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
# A server that goes down says so on idle connections too, and until such a one is closed asyncpg takes its words for
# the answer to something: InternalClientError.
_DEAD: Final = (
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
)


class Transactions(Protocol):
    async def begin(self, connection: AsyncConnection, role: str, subject: Subject | None) -> None:
        """Begins one that has the role and sees the subject's rows; nobody's when there is none."""

    async def commit(self, connection: AsyncConnection) -> None: ...

    async def release(self, connection: AsyncConnection, *, is_cut: bool) -> None:
        """Rolls back what was not committed, and gives the connection back to the pool; a broken one is thrown away.

        `is_cut`: a statement may be under way still, for whose end nobody waits.
        """


class SqlAlchemyTransactions:
    """Any driver's."""

    async def begin(self, connection: AsyncConnection, role: str, subject: Subject | None) -> None:
        org_id, user_id = _ids(subject)
        await connection.execute(_TAKE_ROLE, {"role": role, "user_id": user_id, "org_id": org_id})

    async def commit(self, connection: AsyncConnection) -> None:
        await connection.commit()

    async def release(self, connection: AsyncConnection, *, is_cut: bool) -> None:
        del is_cut  # SQLAlchemy saw for itself
        try:
            await connection.close()
        except DBAPIError:
            # SQLAlchemy would keep its place taken.
            await connection.invalidate()
            await connection.close()


class AsyncpgTransactions:
    """Of an engine whose isolation level is AUTOCOMMIT, so that SQLAlchemy begins and commits nothing itself."""

    async def begin(self, connection: AsyncConnection, role: str, subject: Subject | None) -> None:
        org_id, user_id = _ids(subject)
        driver = driver_of(connection)
        await driver.execute(_BEGIN.format(role=role, user_id=user_id, org_id=org_id))

    async def commit(self, connection: AsyncConnection) -> None:
        driver = driver_of(connection)
        # PostgreSQL answers ROLLBACK, and no error, when a statement failed and the caller went on.
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
    """The organisation's and the user's; made of numbers, so that nothing else can get into a statement."""
    if subject is None:
        return "", ""
    return str(UUID(int=subject.organisation_id.int)), str(UUID(int=subject.user_id.int))


async def _roll_back(driver: asyncpg.Connection) -> None:
    """A connection that cannot do so is ended instead."""
    with suppress(*DRIVER_ERRORS, OSError, TimeoutError):
        await driver.execute("ROLLBACK")
        return
    driver.terminate()


def has_cut(error: BaseException | None) -> bool:
    """Whether what is being raised left a statement without its answer, or a connection that expects another one."""
    cut = asyncio.CancelledError | TimeoutError | GeneratorExit | asyncpg.InternalClientError
    return isinstance(error, cut)


def is_dead(error: BaseException) -> bool:
    """Whether this one connection of the pool is of no use, which says nothing about the next; not that none was made,
    nor what the server answered."""
    if not isinstance(error, DBAPIError):
        return isinstance(error, _DEAD)
    is_unanswered = (
        error.statement is not None
        and not getattr(error.orig, "sqlstate", None)
        and isinstance(error, OperationalError)
    )
    return error.connection_invalidated or is_unanswered
