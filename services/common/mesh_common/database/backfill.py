"""Fills rows that are older than a column or a table, while the running release works on them.

A migration changes the schema and no row. Its `backfills` run in short transactions after it has committed. Each later
`migrate` runs them again, for rows that the previous release has added since. Code must read a row that is not filled
yet as if it were.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

log = structlog.get_logger()

# 1 MB: about 4,000 rows of the agent's runs, whose locks are held for about 100 ms.
_BLOCKS_PER_BATCH: Final = 128
# A locked row is skipped and tried again in the next pass. Some rows are locked most of the time.
_PASSES: Final = 5
_BETWEEN_PASSES_S: Final = 1.0


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
    """Fills pending rows until `until_s` on the monotonic clock. The next `migrate` continues with the rest."""
    filled = 0
    for number in range(_PASSES):
        if number:
            await asyncio.sleep(_BETWEEN_PASSES_S)
        filled += await _pass(connection, backfill, until_s)
        is_unfinished = await _has_pending(connection, backfill)
        if not is_unfinished or time.monotonic() >= until_s:
            break
    level = log.warning if is_unfinished else log.info
    level("migrate.backfill", table=backfill.table, rows=filled, is_complete=not is_unfinished)


async def _pass(connection: AsyncConnection, backfill: Backfill, until_s: float) -> int:
    size = text("SELECT pg_relation_size(CAST(CAST(:name AS text) AS regclass)) / current_setting('block_size')::int")
    async with connection.begin():
        blocks = (await connection.execute(size, {"name": backfill.table})).scalar_one()
    statement, filled = text(backfill.statement), 0
    for first in range(0, blocks, _BLOCKS_PER_BATCH):
        if time.monotonic() >= until_s:
            break
        batch = {"first": (first, 0), "after": (first + _BLOCKS_PER_BATCH, 0)}
        async with connection.begin():
            filled += (await connection.execute(statement, batch)).rowcount
    return filled


async def _has_pending(connection: AsyncConnection, backfill: Backfill) -> bool:
    statement = f"SELECT EXISTS (SELECT FROM {backfill.table} AS old WHERE {backfill.pending})"  # noqa: S608 - as above
    async with connection.begin():
        return bool((await connection.execute(text(statement))).scalar_one())
