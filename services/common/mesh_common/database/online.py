"""Changes to tables that the running release works on, one table a transaction.

A transaction that changes several tables keeps the first locked while it waits for the next. If transactions of the
release use both in the other order, each waits for the other: under load such a migration never ends. What a migration
names as `online` runs before it instead, each step in a transaction of its own that gives way quickly and is tried
again.
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

from mesh_common.database.unit_of_work import sqlstate

log = structlog.get_logger()

# All who use the table queue behind a step that waits for its lock. Below PostgreSQL's deadlock_timeout (1 s), so the
# step gives way before any transaction of the release is cancelled for it.
_LOCK_TIMEOUT: Final = text("SET LOCAL lock_timeout = 400")
_PAUSE_S: Final = 0.2
_LOCK_NOT_AVAILABLE: Final = "55P03"


@dataclass(frozen=True, slots=True)
class OnlineStep:
    """Statements that touch one existing table and neither read nor rewrite its rows.

    `is_done` is a condition in SQL that holds once an earlier run has committed them.
    """

    name: str
    statements: Sequence[str]
    is_done: str


async def run_online(connection: AsyncConnection, step: OnlineStep, *, until_s: float) -> None:
    """Tries the step until `until_s` on the monotonic clock. Raises the driver's error if it never gets its lock."""
    tries = 1
    while not await _run_once(connection, step, is_last=time.monotonic() >= until_s):
        tries += 1
        await asyncio.sleep(_PAUSE_S)
    log.info("migrate.online", step=step.name, tries=tries)


async def _run_once(connection: AsyncConnection, step: OnlineStep, *, is_last: bool) -> bool:
    """False if the table's lock was not to be had in time."""
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
