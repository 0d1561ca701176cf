"""Deletes what has expired, in small bites, so that auth's tables hold what is alive."""

import asyncio
from typing import Final

import structlog
from mesh_common.clock import Clock
from mesh_common.errors import Unavailable
from mesh_common.grpc.health import ReadinessCheck

from mesh_auth.domain import REVOCATION_MARGIN, Lifetimes
from mesh_auth.metrics import PRUNED
from mesh_auth.ports import AuthDatabase

log = structlog.get_logger()

# One bite of each table: some milliseconds, so no login waits for it.
_BITE_ROWS: Final = 1_000
# The rest waits for the next round: retention must never be what a service is busy with.
_MAX_BITES: Final = 20


class Retention:
    """`run` works until cancelled, on every replica; they skip each other's rows."""

    def __init__(
        self,
        database: AuthDatabase,
        clock: Clock,
        *,
        lifetimes: Lifetimes,
        period_s: float,
        not_ready_reason: ReadinessCheck,
    ) -> None:
        self._database = database
        self._not_ready_reason = not_ready_reason
        self._clock = clock
        self._ended_kept = lifetimes.access_token + REVOCATION_MARGIN
        self._period_s = period_s

    async def run(self) -> None:
        while True:
            await self.prune_if_ready()
            await asyncio.sleep(self._period_s)

    async def prune_if_ready(self) -> None:
        """Nothing while the schema is not migrated or the database is away: a service starts before both."""
        if await self._not_ready_reason():
            return
        try:
            await self.prune()
        except Unavailable as error:
            log.warning("retention.skipped", reason=error.reason)

    async def prune(self) -> int:
        """Says how many rows went.

        Used refresh tokens stay until they expire: their reuse is what gives a thief away.
        """
        now = self._clock.now()
        total = 0
        for _ in range(_MAX_BITES):
            async with self._database.as_worker() as store:
                count = await store.prune(expired_before=now, ended_before=now - self._ended_kept, limit=_BITE_ROWS)
            total += count
            if count < _BITE_ROWS:
                break
        PRUNED.inc(total)
        return total
