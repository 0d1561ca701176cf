"""The unit of work: one transaction on a connection of the pool, with its role and its subject."""

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
# 25P03: our transaction stood still for too long.
# A schema, a table or a column that the next migration makes.
UNMIGRATED_CLASSES: Final = ("3F000", "42703", "42P01")
_AWAY_CLASSES: Final = ("08", "25P03", "28", "40", "53", "57", *UNMIGRATED_CLASSES)


class UnitOfWork(AbstractAsyncContextManager[AsyncConnection]):
    """Commits at the end of the block; rolled back when the block is left by an error.

    Entering and leaving raise Unavailable when the database is away, also when the block met it first.

    A class, and not a generator: its layers were 47 of an empty transaction's 413 calls of functions, and contextlib
    would keep an error that another is raised from in a cycle with all that the block knew.
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
            if _is_away(error):
                raise _away(error) from error
            raise
        return self._connection

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        try:
            await self._end(error)
        except Exception as failure:
            if _is_away(failure):
                raise _away(failure) from failure
            raise
        if error is not None and _is_away(error):
            raise _away(error) from error

    async def _begun(self) -> AsyncConnection:
        """Whether the connection lives is seen by the first statement, which takes the role, and a dead one is
        replaced: pinging each before would cost every transaction one more round trip."""
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
        # To its end, also when the task is cancelled: half given back it would be lost to the pool.
        await asyncio.shield(self._transactions.release(connection, is_cut=has_cut(error)))


def database_away() -> Unavailable:
    """What callers are told, whatever the driver said."""
    return Unavailable("The database is not reachable right now. Try again.", retry_after_s=_RETRY_AFTER_S)


def _away(error: BaseException) -> Unavailable:
    # asyncpg, asyncio and SQLAlchemy keep it in frames that its traceback holds: cycles, with all that the block knew.
    clear_frames(error.__traceback__)
    return database_away()


def sqlstate(error: BaseException | None) -> str:
    """Five characters, or none where PostgreSQL was not heard at all."""
    return getattr(getattr(error, "orig", error), "sqlstate", None) or ""


def _is_away(error: BaseException) -> bool:
    """Whether the database itself is the trouble (gone, restarting, full), not the statement."""
    if isinstance(error, (PoolTimeoutError, OSError, TimeoutError)):
        return True
    if not isinstance(error, DBAPIError):
        # SQLAlchemy does not wrap what asyncpg raises on connecting, nor what passes it by (`statements`).
        return isinstance(error, DRIVER_ERRORS) and (is_dead(error) or sqlstate(error).startswith(_AWAY_CLASSES))
    if error.connection_invalidated or isinstance(error, InterfaceError):
        return True
    code = sqlstate(error)
    if not code and error.statement is None:
        # The driver complains before there is a statement: of the connection that the pool had for us. The pool has
        # closed it by now.
        return True
    return code.startswith(_AWAY_CLASSES) or (not code and isinstance(error, OperationalError))
