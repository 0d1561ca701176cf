"""Runs that are stopped at the worst moment."""

import asyncio
import time
from typing import Any, cast

from mesh_agent.domain import Claim
from mesh_agent.execution import Execution
from mesh_agent.executor import Executor, ExecutorLimits
from mesh_agent.handle import Handle
from mesh_agent.store.claims import Owner
from mesh_common.ids import RunId, ThreadId, UserId, new_id


def claimed() -> Claim:
    return Claim(RunId(new_id()), ThreadId(new_id()), UserId(new_id()), 1, 1, 1, "Hi", None, {})


async def never(_: Handle) -> bool:
    await asyncio.Event().wait()
    return False


def executor() -> Executor:
    # Neither is asked anything here: what is launched waits, and nothing claims.
    database, execution = cast("Any", None), cast("Execution", never)
    return Executor(database, Owner("me", "here:1"), execution, ExecutorLimits(10, 10, 6.0), lambda: 0.0)


async def test_run_cancelled_before_its_first_step_leaves_no_trace() -> None:
    """Else its lease would be renewed for ever: asyncio never enters a task that is cancelled before it began."""
    runs, claim = executor(), claimed()

    runs.launch(claim, 0.0)
    was_stopped = runs.cancel(claim.run_id)
    async with asyncio.timeout(5):
        await runs.wait_for_end(claim.run_id, 5.0)

    assert was_stopped
    assert runs.log_of(claim.run_id) is None
    assert runs.load() == 0.0


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

    # As after a pause: the clock went on, and nothing here did.
    runs._handles[claim.run_id].valid_until_s = time.monotonic() - 1.0

    assert before is not None
    assert runs.log_of(claim.run_id) is None
    runs.cancel(claim.run_id)
    await runs.wait_for_end(claim.run_id, 5.0)
