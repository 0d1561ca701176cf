"""Cancels runs: one that its user cancels, those before an interrupting run, and those of a deleted thread."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from mesh_common.errors import MeshError, NotFound
from mesh_common.events.model import RunCancelled, RunEvent
from mesh_common.ids import RunId
from mesh_common.subject import Subject

from mesh_agent.domain.attempts import Claim
from mesh_agent.domain.runs import FollowedRun, Run, RunStatus, Usage
from mesh_agent.events.storage import encode_frames
from mesh_agent.execution.executor import Executor
from mesh_agent.execution.rolling_back import note_calls
from mesh_agent.metrics import RUNS_ENDED
from mesh_agent.ports import PeerAgents
from mesh_agent.store import Connection, Database, checkpoints, claims, rollbacks, runs, unended

log = structlog.get_logger()

_NO_RUN: Final = "There is no such run."
# How long storing the end of a cancelled run may take. After that the caller gets the run's current state.
_END_TIMEOUT_S: Final = 3.0
# For a run without an owner, or whose owner cannot be reached: there is no event to wait for.
_POLL_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class CancelRun:
    database: Database
    executor: Executor
    peers: PeerAgents

    async def __call__(self, subject: Subject, run_id: RunId) -> None:
        """Ends a run that was never claimed at once; stops a running one and waits for its end; keeps an ended one.

        A run that another replica owns is stopped there. If that replica cannot be reached, it stops the run at its
        next heartbeat. A run that was released, or whose owner died, ends here with its stored answer and cost.
        """
        asked_at_s = time.monotonic()
        give_up_s = asked_at_s + _END_TIMEOUT_S
        with self.executor.claiming(1):
            is_open, claim = await self._request_one(subject, run_id)
            if claim:
                self.executor.launch(claim, asked_at_s)
        if not is_open:
            return
        if not claim:
            await self.stop(subject, [run_id])
        await self._wait_until_ended(subject, run_id, give_up_s)

    async def before(self, subject: Subject, run_id: RunId, *, rolls_back: bool = False) -> Sequence[RunId]:
        """Cancels all earlier runs of the run's thread, durably. Returns those that must still be passed to `stop`.

        If `rolls_back`, their messages are deleted, at once or when they end.

        Idempotent. Must run in a transaction after the one that added the run: that one holds the thread's lock, and an
        ending run waits for it while holding its own lock.
        """
        async with self.database.as_subject(subject) as connection:
            earlier = await unended.lock_unended_before(connection, subject.user_id, run_id)
            if not rolls_back:
                return await self._request(connection, subject, earlier)
            await rollbacks.mark(connection, subject.user_id, [run.id for run in earlier])
            left = await self._request(connection, subject, earlier)
            await note_calls(connection, [run.id for run in earlier if run.id not in left])
            return left

    def discard(self, subject: Subject, owners: Mapping[RunId, str]) -> None:
        """Stops runs that were deleted with their thread. `owners` has the owner's address of each. Does not wait.

        An owner that cannot be reached learns of it by its heartbeat.
        """
        for run_id, address in owners.items():
            if not self.executor.discard(subject, run_id):
                self.executor.spawn(self.peers.cancel(address, run_id))

    async def stop(self, subject: Subject, run_ids: Sequence[RunId]) -> None:
        """Stops runs whose cancellation is already stored, without waiting for their ends.

        Raises nothing: a run that cannot be stopped now is stopped by its owner's heartbeat.
        """
        for run_id in run_ids:
            try:
                async with asyncio.timeout(_END_TIMEOUT_S):
                    await self._stop(subject, run_id)
            except (MeshError, TimeoutError) as error:
                log.warning("run.not_stopped", error=type(error).__name__)

    async def _stop(self, subject: Subject, run_id: RunId) -> None:
        async with self.database.as_subject(subject) as connection:
            followed = await runs.followed_run(connection, subject.user_id, run_id)
        if followed and not followed.is_ended and not self.executor.cancel(run_id):
            await self._stop_elsewhere(run_id, followed)

    async def _request_one(self, subject: Subject, run_id: RunId) -> tuple[bool, Claim | None]:
        """Whether the run has not ended yet, and the claim if this replica must end it."""
        async with self.database.as_subject(subject) as connection:
            run = await runs.get_run(connection, subject.user_id, run_id)
            if run is None:
                # The run was deleted with its thread; the replica that deleted it calls this.
                self.executor.discard(subject, run_id)
                raise NotFound(_NO_RUN)
            if not await self._request(connection, subject, [run]):
                return False, None
            return True, await self._claim(connection, run_id)

    async def _request(self, connection: Connection, subject: Subject, wanted: Sequence[Run]) -> list[RunId]:
        """Ends the runs that were never claimed and marks the others for cancellation. Returns the others' ids."""
        open_runs = [run for run in wanted if not run.status.is_ended]
        left = [run.id for run in open_runs if not await self._end_unclaimed(connection, subject, run)]
        if left:
            await unended.request_cancel(connection, subject.user_id, left)
        return left

    async def _claim(self, connection: Connection, run_id: RunId) -> Claim | None:
        """Claims the run regardless of capacity: a run that is to be cancelled executes nothing."""
        if self.executor.is_draining:
            return None
        return await claims.claim_run(connection, self.executor.owner, run_id, ttl_s=self.executor.limits.lease_ttl_s)

    async def _end_unclaimed(self, connection: Connection, subject: Subject, run: Run) -> bool:
        if run.attempt:
            return False
        frames = encode_frames([RunEvent(run.id, 1, 1, RunCancelled(Usage()))])
        if not await unended.cancel_unclaimed(connection, subject.user_id, run.id, frames=frames):
            return False
        if run.resumes_run_id:
            await checkpoints.forget_execution_of(connection, run.id)
        RUNS_ENDED.labels(RunStatus.CANCELLED).inc()
        return True

    async def _stop_elsewhere(self, run_id: RunId, followed: FollowedRun) -> None:
        if followed.owner_address and not self.executor.is_mine(followed):
            await self.peers.cancel(followed.owner_address, run_id)

    async def _wait_until_ended(self, subject: Subject, run_id: RunId, give_up_s: float) -> None:
        await self.executor.wait_for_end(run_id, max(0.0, give_up_s - time.monotonic()))
        while True:
            async with self.database.as_subject(subject) as connection:
                run = await runs.get_run(connection, subject.user_id, run_id)
            if run is None or run.status.is_ended or time.monotonic() >= give_up_s:
                return
            await asyncio.sleep(_POLL_S)
