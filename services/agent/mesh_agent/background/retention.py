"""Retention: what ended runs leave for followers and for repeated requests goes after a day, as do unused plans."""

import asyncio
from dataclasses import dataclass
from typing import Final

from mesh_common.database.postgres import Database
from mesh_common.errors import Unavailable

from mesh_agent.metrics import RETENTION_ROWS
from mesh_agent.store import retention

# A pass is one transaction of some 20 ms at this size; frames of 1,000 runs are some 2 MB.
_ROWS_PER_PASS: Final = 500


@dataclass(frozen=True, slots=True)
class Retention:
    """Every replica does it: passes skip the rows of each other's."""

    database: Database
    keep_s: float
    interval_s: float

    async def run(self) -> None:
        """Until cancelled. After a full pass the next one comes at once, so that it keeps up with any load."""
        while True:
            if await self.sweep() < _ROWS_PER_PASS:
                await asyncio.sleep(self.interval_s)

    async def sweep(self) -> int:
        """One pass over each kind of row; the largest number of rows that one kind had. 0 while PostgreSQL is away."""
        try:
            async with self.database.as_worker() as connection:
                dropped = await retention.drop_expired(connection, self.keep_s, limit=_ROWS_PER_PASS)
        except Unavailable:
            return 0
        for kind, count in dropped.items():
            RETENTION_ROWS.labels(kind).inc(count)
        return max(dropped.values())
