"""Deletes expired rows of auth's tables in small batches."""

import asyncio
from typing import Final

import structlog
from mesh_common.clock import Clock
from mesh_common.errors import Unavailable
from mesh_common.grpc.health import ReadinessCheck

from mesh_auth.domain import REVOCATION_MARGIN, Lifetimes
from mesh_auth.logins.policy import FORGOTTEN_AFTER, KNOWN_FOR
from mesh_auth.metrics import PRUNED
from mesh_auth.ports import AuthDatabase

log = structlog.get_logger()

# One batch of each table takes a few milliseconds, so that no login waits for it.
_BATCH_ROWS: Final = 1_000
# The rest is left for the next round, so that retention never keeps the service busy.
_MAX_BATCHES: Final = 20


class Retention:
    """`run` works until cancelled, on every replica. Replicas skip each other's locked rows."""

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
        # A client that returns when its last access token expires learns that its session became too old.
        self._kept = lifetimes.access_token + REVOCATION_MARGIN
        self._period_s = period_s

    async def run(self) -> None:
        while True:
            await self.prune_if_ready()
            await asyncio.sleep(self._period_s)

    async def prune_if_ready(self) -> None:
        """Does nothing while the schema is not migrated or the database is unavailable: the service may start before
        both."""
        if await self._not_ready_reason():
            return
        try:
            await self.prune()
        except Unavailable as error:
            log.warning("retention.skipped", reason=error.reason)

    async def prune(self) -> int:
        """Returns the number of deleted rows.

        Used refresh tokens are kept until they expire, because their reuse reveals a thief.
        """
        now = self._clock.now()
        total = 0
        for _ in range(_MAX_BATCHES):
            async with self._database.as_worker() as store:
                count = await store.prune(sessions_before=now - self._kept, revocations_before=now, limit=_BATCH_ROWS)
                count += await store.prune_logins(
                    failed_before=now - FORGOTTEN_AFTER, seen_before=now - KNOWN_FOR, limit=_BATCH_ROWS
                )
            total += count
            if count < _BATCH_ROWS:
                break
        PRUNED.inc(total)
        return total
