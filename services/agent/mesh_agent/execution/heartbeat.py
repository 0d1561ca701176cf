"""The heartbeat of a replica: renews its leases, and learns which of them it lost and which runs to cancel."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog
from mesh_common.errors import Unavailable
from mesh_common.ids import RunId

from mesh_agent.execution.run_task import RunTask, Stop
from mesh_agent.store import Database, claims
from mesh_agent.store.claims import Owner

log = structlog.get_logger()

# A heartbeat may fail once before a lease is lost.
_HEARTBEATS_PER_TTL = 3


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """`run_tasks` is the executor's own mapping, so only the leases of runs that it still holds are renewed."""

    database: Database
    owner: Owner
    lease_ttl_s: float
    run_tasks: Mapping[RunId, RunTask]

    @property
    def interval_s(self) -> float:
        return self.lease_ttl_s / _HEARTBEATS_PER_TTL

    async def run(self) -> None:
        """Beats on time even if the previous beat hangs: psycopg gives up an unresponsive connection only after ten
        seconds, cancelled or not."""
        async with asyncio.TaskGroup() as group:
            while True:
                await asyncio.sleep(self.interval_s)
                self._stop_expired()
                if self.run_tasks:
                    group.create_task(self.beat())

    async def beat(self) -> None:
        asked_at_s = time.monotonic()
        before = dict(self.run_tasks)
        try:
            async with asyncio.timeout(self.interval_s):
                states = await self._renew(list(before))
        except (Unavailable, TimeoutError) as error:
            took_s = round(time.monotonic() - asked_at_s, 1)
            log.warning("heartbeat.failed", runs=len(before), error=type(error).__name__, took_s=took_s)
            return
        self._apply(before, {state.run_id: state for state in states}, asked_at_s)

    async def _renew(self, run_ids: Sequence[RunId]) -> Sequence[claims.LeaseState]:
        async with self.database.as_worker() as connection:
            return await claims.renew_leases(connection, self.owner, run_ids, ttl_s=self.lease_ttl_s)

    def _apply(
        self, before: Mapping[RunId, RunTask], states: Mapping[RunId, claims.LeaseState], asked_at_s: float
    ) -> None:
        for run_id, run_task in before.items():
            state = states.get(run_id)
            if state is None or state.fence != run_task.claim.fence:
                run_task.stop_by(Stop.LEASE_LOST)
                continue
            if state.is_renewed:
                run_task.lease.renewed(asked_at_s)
            if state.is_cancel_requested:
                run_task.stop_by(Stop.CANCELLED)

    def _stop_expired(self) -> None:
        for run_task in list(self.run_tasks.values()):
            if not run_task.lease.holds():
                run_task.stop_by(Stop.LEASE_LOST)
