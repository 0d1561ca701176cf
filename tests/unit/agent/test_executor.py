"""Runs that are stopped at the worst possible moment."""

import asyncio
import time
from functools import partial
from typing import Any, cast

import pytest
from fakes.agent.held_memories import HeldMemories
from mesh_agent.domain.attempts import Claim
from mesh_agent.execution.executor import Executor, ExecutorLimits
from mesh_agent.execution.prefetch import prefetch_recall
from mesh_agent.execution.run_task import RunTask, Stop
from mesh_agent.execution.waiting import WaitingFollowers
from mesh_agent.store.claims import Owner
from mesh_common.ids import RunId, ThreadId, new_id
from support.subjects import some_subject


def claimed() -> Claim:
    return Claim(RunId(new_id()), ThreadId(new_id()), some_subject(), 1, 1, 1, "Hi", None, {})


class UntilStopped(RunTask):
    """Waits until it is stopped, and records the reason."""

    async def _execute(self) -> bool:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            assert self.task
            self.task.uncancel()
            stops.append(self.stop)
        return False


stops: list[Stop | None] = []
"""The reasons for which started runs were stopped."""


@pytest.fixture(autouse=True)
def no_stops() -> None:
    stops.clear()


def executor() -> Executor:
    """An executor whose runs wait until they are stopped."""
    new_run_task = partial(UntilStopped, parts=cast("Any", None))
    owner, database = Owner("me", "here:1"), cast("Any", None)
    return Executor(database, owner, new_run_task, ExecutorLimits(10, 10, 6.0), WaitingFollowers(database, owner))


async def drained(runs: Executor, drain_s: float = 0.0) -> asyncio.Task[None]:
    """Starts a drain."""
    draining = asyncio.ensure_future(runs.drain(drain_s))
    await asyncio.sleep(0)
    assert runs.is_draining
    return draining


async def test_run_cancelled_before_its_first_step_learns_of_it_and_leaves_no_trace() -> None:
    """asyncio never enters a task that is cancelled before its first step, so nothing else would end the run."""
    runs, claim = executor(), claimed()

    runs.launch(claim, 0.0)
    was_stopped = runs.cancel(claim.run_id)
    async with asyncio.timeout(5):
        await runs.wait_for_end(claim.run_id, 5.0)

    assert was_stopped
    assert stops == [Stop.CANCELLED]
    assert runs.log_of(claim.run_id) is None


async def test_run_cancelled_in_its_middle_leaves_no_trace() -> None:
    runs, claim = executor(), claimed()
    runs.launch(claim, 0.0)
    await asyncio.sleep(0)

    runs.cancel(claim.run_id)
    await runs.wait_for_end(claim.run_id, 5.0)

    assert runs.log_of(claim.run_id) is None


async def test_log_of_a_run_whose_lease_ran_out_is_not_given() -> None:
    runs, claim = executor(), claimed()
    runs.launch(claim, time.monotonic())
    before = runs.log_of(claim.run_id)

    # As after a pause of the process: only the clock advanced.
    runs._run_tasks[claim.run_id].lease.valid_until_s = time.monotonic() - 1.0

    assert before is not None
    assert runs.log_of(claim.run_id) is None
    runs.cancel(claim.run_id)
    await runs.wait_for_end(claim.run_id, 5.0)


async def test_drain_lets_a_run_end_that_was_being_started_when_it_began() -> None:
    runs, claim = executor(), claimed()
    with runs.reserved() as has_room:
        draining = await drained(runs, drain_s=60.0)
        is_over = draining.done()
        runs.launch(claim, time.monotonic())
    await asyncio.sleep(0)
    runs.cancel(claim.run_id)
    async with asyncio.timeout(5):
        await draining

    assert has_room
    assert not is_over
    assert stops == [Stop.CANCELLED]


async def test_prefetched_recall_ends_with_a_run_that_never_came_to_it() -> None:
    runs, claim, memories = executor(), claimed(), HeldMemories()
    recall = prefetch_recall(runs.spawn, memories, claim.subject, claim.message)
    await memories.asked.get()

    runs.launch(claim, 0.0, recall)
    runs.cancel(claim.run_id)
    async with asyncio.timeout(5):
        await runs.drain(60.0)

    assert recall.cancelled()
    assert not runs._tasks
