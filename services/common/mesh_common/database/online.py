"""Changes to tables that the running release uses, one table per transaction.

A transaction that changes several tables keeps the first locked while it waits for the next. If transactions of the
running release use the two tables in the opposite order, each waits for the other: under load such a migration never
ends. The `online` steps of a migration therefore run before it. Each has a transaction of its own, gives up quickly if
the table is locked, and is tried again. An index on a table with many rows is built concurrently instead, because
building it in a transaction blocks all writers until every row is read.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from mesh_common.database.connections import sqlstate

log = structlog.get_logger()

# While a step waits for its lock, all other users of the table queue behind it. Below PostgreSQL's deadlock_timeout
# (1 s), so that the step gives up before a transaction of the running release is cancelled because of it.
_LOCK_TIMEOUT: Final = text("SET LOCAL lock_timeout = 400")
_PAUSE_S: Final = 0.2
_LOCK_NOT_AVAILABLE: Final = "55P03"
_IS_VALID: Final = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(CAST(:name AS text))")


@dataclass(frozen=True, slots=True)
class OnlineStep:
    """Statements that touch one existing table and neither read nor rewrite its rows.

    `is_done` is an SQL condition that holds once an earlier run has committed them.
    """

    name: str
    statements: Sequence[str]
    is_done: str


@dataclass(frozen=True, slots=True)
class ConcurrentIndex:
    """An index that is built while other transactions read and write its table. It must not be unique.

    `name` has the schema; `definition` is what follows the name in CREATE INDEX.
    """

    name: str
    definition: str


async def build_index(connection: AsyncConnection, index: ConcurrentIndex, *, until_s: float) -> None:
    """Waits for the transactions that use the table, until `until_s` on the monotonic clock, but blocks none of them.

    `connection` must be in autocommit. Replaces an index that an interrupted run left invalid.
    """
    timeout_ms = max(1, int((until_s - time.monotonic()) * 1000))
    await connection.execute(text(f"SET statement_timeout = {timeout_ms}"))
    is_valid = (await connection.execute(_IS_VALID, {"name": index.name})).scalar_one_or_none()
    if not is_valid:
        if is_valid is False:
            await connection.execute(text(f"DROP INDEX CONCURRENTLY {index.name}"))
        unqualified = index.name.partition(".")[2]
        await connection.execute(text(f"CREATE INDEX CONCURRENTLY {unqualified} {index.definition}"))
    log.info("migrate.index", index=index.name, is_new=not is_valid)


async def run_online(connection: AsyncConnection, step: OnlineStep, *, until_s: float) -> None:
    """Tries the step until `until_s` on the monotonic clock. Raises the driver's error if it never gets the lock."""
    tries = 1
    while not await _run_once(connection, step, is_last=time.monotonic() >= until_s):
        tries += 1
        await asyncio.sleep(_PAUSE_S)
    log.info("migrate.online", step=step.name, tries=tries)


async def _run_once(connection: AsyncConnection, step: OnlineStep, *, is_last: bool) -> bool:
    """False if the table's lock could not be acquired in time."""
    try:
        async with connection.begin():
            if not (await connection.execute(text(f"SELECT {step.is_done}"))).scalar_one():
                await connection.execute(_LOCK_TIMEOUT)
                for statement in step.statements:
                    await connection.execute(text(statement))
    except DBAPIError as error:
        if is_last or sqlstate(error) != _LOCK_NOT_AVAILABLE:
            raise
        return False
    return True
