"""Fills rows that are older than a column or a table, while the running release works on them.

A migration changes the schema and no row. Its `backfills` run in short transactions after it has committed. Each later
`migrate` runs them again, for rows that the previous release has added since. Code must read a row that is not filled
yet as if it were.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
from sqlalchemy import CursorResult, TextClause, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from mesh_common.database.connections import sqlstate

log = structlog.get_logger()

# 1 MB: about 4,000 rows of the agent's runs, whose locks are held for about 100 ms.
_BLOCKS_PER_BATCH: Final = 128
# A locked row is skipped and tried again in the next pass. Some rows are locked most of the time.
_PASSES: Final = 5
_BETWEEN_PASSES_S: Final = 1.0
_BLOCKS: Final = text(
    "SELECT pg_relation_size(CAST(CAST(:name AS text) AS regclass)) / current_setting('block_size')::int"
)
# By statement_timeout.
_QUERY_CANCELED: Final = "57014"


@dataclass(frozen=True, slots=True)
class Backfill:
    """`statement` fills the rows of `table` in one range of its blocks: ctid >= :first AND ctid < :after.

    It must be idempotent and must not wait for row locks, or a deadlock could cancel a transaction of the running
    release. `pending` is the condition, on a row of `table` called `old`, that the row is not filled yet.
    """

    table: str
    statement: str
    pending: str


def update_backfill(table: str, assignment: str, pending: str) -> Backfill:
    """`UPDATE table SET assignment WHERE pending`; `pending` names columns as `old.<column>`."""
    statement = f"""
        WITH batch AS (
            SELECT old.ctid FROM {table} AS old WHERE old.ctid >= :first AND old.ctid < :after AND {pending}
            FOR NO KEY UPDATE SKIP LOCKED
        )
        UPDATE {table} AS filled SET {assignment} FROM batch WHERE filled.ctid = batch.ctid
    """  # noqa: S608 - names of our own migrations
    return Backfill(table, statement, pending)


def organisation_backfills(schema: str, tables: Sequence[str]) -> tuple[Backfill, ...]:
    """Rows without an organisation get the personal organisation of their user."""
    return tuple(update_backfill(f"{schema}.{table}", "org_id = user_id", "old.org_id IS NULL") for table in tables)


async def run_backfill(connection: AsyncConnection, backfill: Backfill, *, until_s: float) -> None:
    """Fills pending rows until `until_s` on the monotonic clock. The next `migrate` continues with the rest.

    A table without pending rows is read once and not changed.
    """
    filled, passes = 0, 0
    while (is_unfinished := await _has_pending(connection, backfill, until_s)) and passes < _PASSES:
        if time.monotonic() >= until_s:
            break
        if passes:
            await asyncio.sleep(_BETWEEN_PASSES_S)
        filled += await _pass(connection, backfill, until_s)
        passes += 1
    level = log.warning if is_unfinished else log.info
    level("migrate.backfill", table=backfill.table, rows=filled, is_complete=not is_unfinished)


async def _pass(connection: AsyncConnection, backfill: Backfill, until_s: float) -> int:
    found = await _run_until(connection, _BLOCKS, {"name": backfill.table}, until_s)
    blocks = found.scalar_one() if found else 0
    statement, filled = text(backfill.statement), 0
    for first in range(0, blocks, _BLOCKS_PER_BATCH):
        batch = {"first": (first, 0), "after": (first + _BLOCKS_PER_BATCH, 0)}
        done = await _run_until(connection, statement, batch, until_s)
        if done is None:
            break
        filled += done.rowcount
    return filled


async def _has_pending(connection: AsyncConnection, backfill: Backfill, until_s: float) -> bool:
    """True also if the time is over before the table is read."""
    statement = f"SELECT EXISTS (SELECT FROM {backfill.table} AS old WHERE {backfill.pending})"  # noqa: S608 - as above
    found = await _run_until(connection, text(statement), {}, until_s)
    return found is None or bool(found.scalar_one())


async def _run_until(
    connection: AsyncConnection, statement: TextClause, parameters: Mapping[str, Any], until_s: float
) -> CursorResult[Any] | None:
    """Runs the statement in its own transaction. None if `until_s` passes first; the statement then changes nothing.

    A statement can take longer than its batch needs: it may scan a large table, or wait for the lock of a table.
    """
    remaining_ms = int((until_s - time.monotonic()) * 1000)
    if remaining_ms <= 0:  # 0 would mean no limit.
        return None
    try:
        async with connection.begin():
            await connection.execute(text(f"SET LOCAL statement_timeout = {remaining_ms}"))
            return await connection.execute(statement, parameters)
    except DBAPIError as error:
        if sqlstate(error) != _QUERY_CANCELED:
            raise
        return None
