"""Retention: deletes events of ended runs and idempotency keys after a day, and plans that are no longer used.

It also rejects what interrupted runs asked and nobody decided in time, and deletes their checkpoints.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

from mesh_common.errors import Unavailable

from mesh_agent.execution.rejecting import EXPIRED, close_rejected
from mesh_agent.metrics import RETENTION_ROWS
from mesh_agent.store import Database, interrupts, retention

# At this size one pass is a transaction of about 20 ms. The frames of 1,000 runs take about 2 MB.
_ROWS_PER_PASS: Final = 500


@dataclass(frozen=True, slots=True)
class Retention:
    """Runs on every replica. Concurrent passes skip each other's rows."""

    database: Database
    keep_s: float
    interval_s: float

    async def run(self) -> None:
        """Sweeps until cancelled. A full pass is followed by the next one at once, to keep up with any load."""
        while True:
            if await self.sweep() < _ROWS_PER_PASS:
                await asyncio.sleep(self.interval_s)

    async def sweep(self) -> int:
        """Makes one pass over each kind of row. Returns the largest number of rows that one kind had, or 0 while
        PostgreSQL is unavailable."""
        try:
            async with self.database.as_worker() as connection:
                dropped = await retention.drop_expired(connection, self.keep_s, limit=_ROWS_PER_PASS)
            async with self.database.as_worker() as connection:
                rejected = await interrupts.reject_expired(connection, limit=_ROWS_PER_PASS, message=EXPIRED)
                await close_rejected(connection, rejected, EXPIRED)
                dropped["interrupts"] = len(rejected)
        except Unavailable:
            return 0
        for kind, count in dropped.items():
            RETENTION_ROWS.labels(kind).inc(count)
        return max(dropped.values())
