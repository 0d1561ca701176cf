"""Executes runs beside the requests that started them: claims, room, cancel, drain (DESIGN §6).

It starts bare tasks, which no TaskGroup holds, for a run that crashes must fail alone (`execution`); `spawn` keeps
them, and `drain` waits for them.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mesh_common.database.postgres import Database
from mesh_common.errors import Unavailable
from mesh_common.ids import RunId, UserId

from mesh_agent.domain import Claim, FollowedRun
from mesh_agent.events.log import AttemptLog
from mesh_agent.execution.backlog import Backlog
from mesh_agent.execution.handle import Handle, Stop
from mesh_agent.execution.heartbeat import Heartbeat
from mesh_agent.execution.prefetch import RecallAhead
from mesh_agent.execution.recorder import Attempt
from mesh_agent.execution.run_task import Execution
from mesh_agent.lease import HeldLease
from mesh_agent.metrics import RUNS_RUNNING
from mesh_agent.store import claims
from mesh_agent.store.claims import Owner

_POLL_S = 1.0


@dataclass(frozen=True, slots=True)
class ExecutorLimits:
    max_runs: int
    max_pending_runs: int
    lease_ttl_s: float


class Executor:
    """`run` claims and renews until cancelled; `launch` starts what a request has claimed itself."""

    def __init__(
        self,
        database: Database,
        owner: Owner,
        execution: Execution,
        limits: ExecutorLimits,
        cpu_share: Callable[[], float],
    ) -> None:
        self.owner = owner
        self.limits = limits
        self.backlog = Backlog(database, limits.max_pending_runs)
        self._database = database
        self._execution = execution
        self._cpu_share = cpu_share
        self._handles: dict[RunId, Handle] = {}
        self._reserved = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self.is_draining = False
        self.is_drained = False
        self.after_end: Callable[[], None] = lambda: None

    # --- what requests ask of it

    def load(self) -> float:
        """How busy the replica is, 0..1: by its runs, or by the CPU its event loop uses, whichever is more."""
        return max(len(self._handles) / self.limits.max_runs, self._cpu_share())

    def is_mine(self, run: FollowedRun) -> bool:
        """Whether this replica owns it, or one that had this address before and whose lease has not run out yet."""
        return run.owner == self.owner.name or run.owner_address == self.owner.address

    def log_of(self, run_id: RunId) -> AttemptLog | None:
        """The live events of a run that is executed here; not those of an attempt that another may have made void."""
        handle = self._handles.get(run_id)
        return handle.attempt.log if handle and handle.attempt.log.may_be_told else None

    async def wait_until_here(self, run_id: RunId, timeout_s: float) -> None:
        """Until a run starts here or the replica is drained, at most `timeout_s`."""
        await self._wait_until(lambda: self.log_of(run_id) is not None or self.is_drained, timeout_s)

    async def wait_for_end(self, run_id: RunId, timeout_s: float) -> None:
        """Until a run of this replica is over and its end stored, at most `timeout_s`."""
        handle = self._handles.get(run_id)
        if handle is None:
            return
        try:
            async with asyncio.timeout(timeout_s):
                await handle.ended.wait()
        except TimeoutError:
            return

    def spawn[T](self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Work that must go on when the request that asked for it goes away. Waited for at the end."""
        task = asyncio.create_task(work)  # noqa: TID251 - the named exception
        self._tasks.add(task)
        task.add_done_callback(self._drop)
        return task

    @contextmanager
    def reserved(self) -> Iterator[bool]:
        """Whether there is room for one more run, which is kept while inside: starts at once must not exceed it."""
        room = self._room(1)
        with self.claiming(room):
            yield room == 1

    @contextmanager
    def claiming(self, places: int) -> Iterator[None]:
        """Keeps places for what a claim under way may bring; a drain waits for it."""
        self._reserved += places
        try:
            yield
        finally:
            self._reserved -= places
            self._tell_drain()

    def launch(self, claim: Claim, claimed_at_s: float, recall_ahead: RecallAhead | None = None) -> None:
        """Starts a claimed run. `claimed_at_s`: the monotonic time before the claim was sent.

        A recall that was asked ahead is the run's from here on, and ends with it.
        """
        handle = self._handle(claim, claimed_at_s, recall_ahead)
        before = self._handles.get(claim.run_id)
        if before:
            # An attempt of ours whose lease ran out unnoticed: this claim is the notice.
            before.lease.give_up()
            before.stop_by(Stop.LEASE_LOST)
        self._handles[claim.run_id] = handle
        RUNS_RUNNING.set(len(self._handles))
        handle.task = self.spawn(self._execute(handle))
        # Not in a `finally` of the task: one that is cancelled before its first step never gets there.
        handle.task.add_done_callback(lambda _: self._forget(handle))
        self._tell_change()

    def cancel(self, run_id: RunId) -> bool:
        """Stops a run for its user; its partial answer is kept. False when it is not running here (any more)."""
        handle = self._handles.get(run_id)
        return handle is not None and (handle.stop_by(Stop.CANCELLED) or not handle.ended.is_set())

    def discard(self, user_id: UserId, run_id: RunId) -> bool:
        """Stops a run of the user's whose thread is gone; nothing is kept of it. False when it is not running here."""
        handle = self._handles.get(run_id)
        if handle is None or handle.claim.user_id != user_id:
            return False
        handle.stop_by(Stop.DISCARDED)
        return True

    def wake(self) -> None:
        """Looks for pending runs at once."""
        self._wake.set()

    # --- the life of the process

    async def run(self) -> None:
        heartbeat = Heartbeat(self._database, self.owner, self.limits.lease_ttl_s, self._handles)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._claim_forever())
            group.create_task(heartbeat.run())
            group.create_task(self.backlog.run())

    async def drain(self, drain_s: float) -> None:
        """Takes nothing new, lets runs end for `drain_s`, then gives the rest back for others to claim."""
        self.is_draining = True
        await self._wait_until(lambda: not self._handles and not self._reserved, drain_s)
        await self._wait_until(self._release_all, self.limits.lease_ttl_s)
        self.is_drained = True
        self._tell_change()

    def _release_all(self) -> bool:
        """Stops what is here, also what a claim brought a moment ago; whether nothing is left."""
        for handle in list(self._handles.values()):
            handle.stop_by(Stop.RELEASED)
        return not (self._handles or self._reserved or self._tasks)

    def _room(self, at_most: int) -> int:
        if self.is_draining:
            return 0
        return max(0, min(at_most, self.limits.max_runs - len(self._handles) - self._reserved))

    async def _claim_forever(self) -> None:
        while True:
            self._wake.clear()
            await self._claim_once()
            try:
                async with asyncio.timeout(_POLL_S):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _claim_once(self) -> None:
        # Half of the room, so that requests find some and need not wait for the next claim; the last place is taken.
        room = (self._room(self.limits.max_runs) + 1) // 2
        if not room:
            return
        asked_at_s = time.monotonic()
        with self.claiming(room):
            try:
                async with self._database.as_worker() as connection:
                    claimed = await claims.claim_runs(connection, self.owner, limit=room, ttl_s=self.limits.lease_ttl_s)
            except Unavailable:
                return
        self.backlog.claimed(len(claimed))
        for claim in claimed:
            self.launch(claim, asked_at_s)

    def _handle(self, claim: Claim, claimed_at_s: float, recall_ahead: RecallAhead | None) -> Handle:
        lease = HeldLease.asked_for(claimed_at_s, self.limits.lease_ttl_s)
        attempt_log = AttemptLog(claim, lease.holds)
        return Handle(claim, Attempt(attempt_log, self.load, claimed_at_s, recall_ahead), lease)

    async def _execute(self, handle: Handle) -> None:
        handle.begin()
        if await self._execution(handle):
            self.wake()
        self.after_end()

    def _forget(self, handle: Handle) -> None:
        handle.attempt.close()
        if not self._room(1):
            self.wake()
        if self._handles.get(handle.claim.run_id) is handle:
            del self._handles[handle.claim.run_id]
        handle.ended.set()
        RUNS_RUNNING.set(len(self._handles))
        self._tell_change()

    async def _wait_until(self, holds: Callable[[], bool], timeout_s: float) -> None:
        """Looks whenever something here changes; gives up after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                while not holds():
                    await self._changed.wait()
        except TimeoutError:
            return

    def _drop(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self._tell_drain()

    def _tell_drain(self) -> None:
        # Nobody else waits for this, and it is done for every run.
        if self.is_draining:
            self._tell_change()

    def _tell_change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
