"""Which runs execute on this replica: capacity, claims, cancellation and drain.

Runs are bare tasks outside any TaskGroup, because a crashing run must fail alone (`run_task`). `spawn` keeps a
reference to each task, and `drain` waits for all of them.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mesh_common.errors import Unavailable
from mesh_common.ids import RunId
from mesh_common.subject import Subject

from mesh_agent.domain.attempts import Claim
from mesh_agent.domain.runs import MAX_ANSWER_BYTES, FollowedRun
from mesh_agent.events.log import EventLog
from mesh_agent.execution.backlog import Backlog
from mesh_agent.execution.heartbeat import Heartbeat
from mesh_agent.execution.prefetch import PrefetchedRecall
from mesh_agent.execution.recorder import Recorder
from mesh_agent.execution.run_task import RunTask, Stop
from mesh_agent.execution.waiting import WaitingFollowers
from mesh_agent.lease import HeldLease
from mesh_agent.metrics import RUNS_RUNNING
from mesh_agent.store import Database, claims
from mesh_agent.store.claims import Owner

_POLL_S = 1.0


@dataclass(frozen=True, slots=True)
class ExecutorLimits:
    max_runs: int
    max_pending_runs: int
    lease_ttl_s: float
    max_answer_bytes: int = MAX_ANSWER_BYTES


class Executor:
    """`run` claims runs and renews leases until cancelled. `launch` starts a run that a request has claimed itself."""

    def __init__(
        self,
        leases: Database,
        owner: Owner,
        new_run_task: Callable[[Claim, Recorder, HeldLease], RunTask],
        limits: ExecutorLimits,
        waiting: WaitingFollowers,
    ) -> None:
        self.owner = owner
        self.limits = limits
        self.waiting = waiting
        self.backlog = Backlog(leases, limits.max_pending_runs)
        self._leases = leases
        self._new_run_task = new_run_task
        self._run_tasks: dict[RunId, RunTask] = {}
        self._reserved = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self.is_draining = False
        self.is_drained = False
        self.after_end: Callable[[], None] = lambda: None

    # --- for requests

    def is_mine(self, run: FollowedRun) -> bool:
        """Whether this replica owns it, or a predecessor at the same address whose lease has not expired yet."""
        return run.owner == self.owner.name or run.owner_address == self.owner.address

    def log_of(self, run_id: RunId) -> EventLog | None:
        """The live events of a run that executes here; None when another replica may have voided its attempt."""
        run_task = self._run_tasks.get(run_id)
        return run_task.recorder.log if run_task and run_task.recorder.log.may_be_told else None

    async def wait_for_end(self, run_id: RunId, timeout_s: float) -> None:
        """Returns when a run of this replica has ended and its end is stored, or after `timeout_s`."""
        run_task = self._run_tasks.get(run_id)
        if run_task is None:
            return
        try:
            async with asyncio.timeout(timeout_s):
                await run_task.ended.wait()
        except TimeoutError:
            return

    def spawn[T](self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Starts work that must outlive the request that asked for it. `drain` waits for it."""
        task = asyncio.create_task(work)  # noqa: TID251 - the named exception
        self._tasks.add(task)
        task.add_done_callback(self._drop)
        return task

    @contextmanager
    def reserved(self) -> Iterator[bool]:
        """Reserves capacity for one run while the block runs, so that concurrent starts cannot exceed `max_runs`.

        Yields False when there is none.
        """
        free = self._free_capacity(1)
        with self.claiming(free):
            yield free == 1

    @contextmanager
    def claiming(self, count: int) -> Iterator[None]:
        """Reserves capacity for the runs that a claim in progress may return. A drain waits for the claim."""
        self._reserved += count
        try:
            yield
        finally:
            self._reserved -= count
            self._notify_drain()

    def launch(self, claim: Claim, claimed_at_s: float, prefetched_recall: PrefetchedRecall | None = None) -> None:
        """Starts a claimed run, which owns `prefetched_recall` from here on.

        `claimed_at_s`: the monotonic time before the claim was sent.
        """
        run_task = self._run_task(claim, claimed_at_s, prefetched_recall)
        before = self._run_tasks.get(claim.run_id)
        if before:
            # An attempt of this replica whose lease expired unnoticed. The new claim proves it.
            before.lease.give_up()
            before.stop_by(Stop.LEASE_LOST)
        self._run_tasks[claim.run_id] = run_task
        RUNS_RUNNING.set(len(self._run_tasks))
        run_task.task = self.spawn(self._execute(run_task))
        # Not in a `finally` of the task: a task that is cancelled before its first step never reaches it.
        run_task.task.add_done_callback(lambda _: self._forget(run_task))
        self.waiting.started_here(claim.run_id)
        self._notify_drain()

    def cancel(self, run_id: RunId) -> bool:
        """Stops a run for its user and keeps the partial answer. False when it is not running here."""
        run_task = self._run_tasks.get(run_id)
        return run_task is not None and (run_task.stop_by(Stop.CANCELLED) or not run_task.ended.is_set())

    def discard(self, subject: Subject, run_id: RunId) -> bool:
        """Stops a run of the user whose thread was deleted; keeps nothing. False when it is not running here."""
        run_task = self._run_tasks.get(run_id)
        if run_task is None or not run_task.claim.is_of(subject):
            return False
        run_task.stop_by(Stop.DISCARDED)
        return True

    def wake(self) -> None:
        """Polls for pending runs now."""
        self._wake.set()

    # --- for the process

    async def run(self) -> None:
        heartbeat = Heartbeat(self._leases, self.owner, self.limits.lease_ttl_s, self._run_tasks)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._claim_forever())
            group.create_task(heartbeat.run())
            group.create_task(self.backlog.run())

    async def drain(self, drain_s: float) -> None:
        """Accepts nothing new, lets runs finish for `drain_s`, then releases the rest for other replicas."""
        self.is_draining = True
        await self._wait_until(lambda: not self._run_tasks and not self._reserved, drain_s)
        await self._wait_until(self._release_all, self.limits.lease_ttl_s)
        self.is_drained = True
        self.waiting.wake_all()

    def _release_all(self) -> bool:
        """Releases every run, including those a claim has just returned. True when none is left."""
        for run_task in list(self._run_tasks.values()):
            run_task.stop_by(Stop.RELEASED)
        return not (self._run_tasks or self._reserved or self._tasks)

    def _free_capacity(self, at_most: int) -> int:
        if self.is_draining:
            return 0
        return max(0, min(at_most, self.limits.max_runs - len(self._run_tasks) - self._reserved))

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
        # Half of what is free, rounded up: requests can then start runs here without waiting for the next claim.
        count = (self._free_capacity(self.limits.max_runs) + 1) // 2
        if not count:
            return
        asked_at_s = time.monotonic()
        with self.claiming(count):
            try:
                claimed = await self._claim(count)
            except Unavailable:
                return
        self.backlog.claimed(len(claimed))
        for claim in claimed:
            self.launch(claim, asked_at_s)

    async def _claim(self, count: int) -> Sequence[Claim]:
        async with self._leases.as_worker() as connection:
            return await claims.claim_runs(connection, self.owner, limit=count, ttl_s=self.limits.lease_ttl_s)

    def _run_task(self, claim: Claim, claimed_at_s: float, prefetched_recall: PrefetchedRecall | None) -> RunTask:
        lease = HeldLease.asked_for(claimed_at_s, self.limits.lease_ttl_s)
        recorder = Recorder(EventLog(claim, lease), claimed_at_s, prefetched_recall, self.limits.max_answer_bytes)
        return self._new_run_task(claim, recorder, lease)

    async def _execute(self, run_task: RunTask) -> None:
        if await run_task.execute():
            self.wake()
        self.after_end()

    def _forget(self, run_task: RunTask) -> None:
        run_task.recorder.close()
        if not self._free_capacity(1):
            self.wake()
        if self._run_tasks.get(run_task.claim.run_id) is run_task:
            del self._run_tasks[run_task.claim.run_id]
        run_task.ended.set()
        RUNS_RUNNING.set(len(self._run_tasks))
        self._notify_drain()

    async def _wait_until(self, holds: Callable[[], bool], timeout_s: float) -> None:
        """Returns when `holds()` is true, checked after each change, or after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                while not holds():
                    await self._changed.wait()
        except TimeoutError:
            return

    def _drop(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self._notify_drain()

    def _notify_drain(self) -> None:
        # Only a drain waits for this, and it happens for every run.
        if self.is_draining:
            self._notify_change()

    def _notify_change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
