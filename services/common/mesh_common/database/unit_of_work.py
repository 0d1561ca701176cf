"""The unit of work: one transaction on a connection from the pool, with a role and a subject."""

import asyncio
from contextlib import AbstractAsyncContextManager
from traceback import clear_frames
from typing import Final

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from mesh_common.database.transactions import DRIVER_ERRORS, Transactions, has_cut, is_dead
from mesh_common.errors import Unavailable
from mesh_common.subject import Subject

_RETRY_AFTER_S: Final = 1.0
# Class 08: connection; 40: rolled back by a deadlock; 53: resources; 57: the operator stopped us.
# https://www.postgresql.org/docs/18/errcodes-appendix.html
# Class 28: a password that is being rotated.
# 25P03: our transaction was idle for too long.
# A schema, a table or a column that the next migration creates.
UNMIGRATED_CLASSES: Final = ("3F000", "42703", "42P01")
_UNAVAILABLE_CLASSES: Final = ("08", "25P03", "28", "40", "53", "57", *UNMIGRATED_CLASSES)


class UnitOfWork(AbstractAsyncContextManager[AsyncConnection]):
    """Commits at the end of the block; rolls back if the block raises.

    Entering and leaving raise Unavailable if the database is unavailable, also if a statement in the block failed for
    that reason.

    A class and not a generator: contextlib accounted for 47 of the 413 function calls of an empty transaction. It would
    also keep an exception that another is raised from in a reference cycle with all variables of the block.
    """

    __slots__ = ("_connection", "_engine", "_role", "_subject", "_transactions")

    _connection: AsyncConnection

    def __init__(self, engine: AsyncEngine, transactions: Transactions, role: str, subject: Subject | None) -> None:
        self._engine = engine
        self._transactions = transactions
        self._role = role
        self._subject = subject

    async def __aenter__(self) -> AsyncConnection:
        try:
            self._connection = await self._begun()
        except Exception as error:
            if _is_unavailable(error):
                raise _unavailable(error) from error
            raise
        return self._connection

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        try:
            await self._end(error)
        except Exception as failure:
            if _is_unavailable(failure):
                raise _unavailable(failure) from failure
            raise
        if error is not None and _is_unavailable(error):
            raise _unavailable(error) from error

    async def _begun(self) -> AsyncConnection:
        """A connection whose first statement, which takes the role, finds it dead is replaced once.

        Pinging each connection beforehand would cost every transaction one more round trip.
        """
        try:
            return await self._take()
        except (DBAPIError, *DRIVER_ERRORS) as error:
            if not is_dead(error):
                raise
        return await self._take()

    async def _take(self) -> AsyncConnection:
        connection = await self._engine.connect()
        try:
            await self._transactions.begin(connection, self._role, self._subject)
        except BaseException as error:
            await self._give_back(connection, error)
            raise
        return connection

    async def _end(self, error: BaseException | None) -> None:
        try:
            if error is None:
                await self._transactions.commit(self._connection)
        except BaseException as failure:
            await self._give_back(self._connection, failure)
            raise
        await self._give_back(self._connection, error)

    async def _give_back(self, connection: AsyncConnection, error: BaseException | None) -> None:
        # Shielded, because a connection whose release is cancelled halfway would be lost to the pool.
        await asyncio.shield(self._transactions.release(connection, is_cut=has_cut(error)))


def database_away() -> Unavailable:
    """The error for callers, whatever the driver raised."""
    return Unavailable("The database is not reachable right now. Try again.", retry_after_s=_RETRY_AFTER_S)


def _unavailable(error: BaseException) -> Unavailable:
    # asyncpg, asyncio and SQLAlchemy keep it in frames that its traceback refers to: reference cycles, which would keep
    # all variables of the block.
    clear_frames(error.__traceback__)
    return database_away()


def sqlstate(error: BaseException | None) -> str:
    """Five characters, or "" if the error did not come from PostgreSQL."""
    return getattr(getattr(error, "orig", error), "sqlstate", None) or ""


def _is_unavailable(error: BaseException) -> bool:
    """Whether the database itself is the problem (unreachable, restarting, full) and not the statement."""
    if isinstance(error, (PoolTimeoutError, OSError, TimeoutError)):
        return True
    if not isinstance(error, DBAPIError):
        # SQLAlchemy does not wrap errors that asyncpg raises on connecting, nor those of `statements`, which bypass it.
        return isinstance(error, DRIVER_ERRORS) and (is_dead(error) or sqlstate(error).startswith(_UNAVAILABLE_CLASSES))
    if error.connection_invalidated or isinstance(error, InterfaceError):
        return True
    code = sqlstate(error)
    if not code and error.statement is None:
        # The driver failed before any statement, so the connection from the pool is broken. The pool has closed it by
        # now.
        return True
    return code.startswith(_UNAVAILABLE_CLASSES) or (not code and isinstance(error, OperationalError))
