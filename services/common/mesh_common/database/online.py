"""Changes to tables that the running release uses, one table per transaction.

A transaction that changes several tables keeps the first locked while it waits for the next. If transactions of the
running release use the two tables in the opposite order, each waits for the other: under load such a migration never
ends. The `online` steps of a migration therefore run before it. Each has a transaction of its own, gives up quickly if
the table is locked, and is tried again.
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


@dataclass(frozen=True, slots=True)
class OnlineStep:
    """Statements that touch one existing table and neither read nor rewrite its rows.

    `is_done` is an SQL condition that holds once an earlier run has committed them.
    """

    name: str
    statements: Sequence[str]
    is_done: str


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
