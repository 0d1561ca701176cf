"""Heartbeats are sent on time."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

from mesh_agent.execution.heartbeat import Heartbeat
from mesh_agent.execution.run_task import RunTask, Stop
from mesh_agent.lease import HeldLease
from mesh_agent.store.claims import LeaseState, Owner
from mesh_common.database.postgres import Database
from mesh_common.ids import RunId, new_id


class UnresponsiveAtFirst(Heartbeat):
    """Its first renewal hangs, as psycopg does on an unresponsive connection: cancellation takes effect much later."""

    asked = 0
    released = asyncio.Event()
    answered = asyncio.Event()

    async def _renew(self, run_ids: Sequence[RunId]) -> Sequence[LeaseState]:
        UnresponsiveAtFirst.asked += 1
        if UnresponsiveAtFirst.asked > 1:
            self.answered.set()
            return [LeaseState(run_id, 1, is_cancel_requested=False, is_renewed=True) for run_id in run_ids]
        while not self.released.is_set():
            with suppress(asyncio.CancelledError):
                await self.released.wait()
        raise asyncio.CancelledError


class StillHeld(HeldLease):
    def holds(self) -> bool:
        return True


class LeasedRunTask:
    """The part of a run task that a heartbeat uses."""

    def __init__(self) -> None:
        self.claim = type("Claim", (), {"fence": 1})()
        self.lease = StillHeld(0.0, 60.0)
        self.stops: list[Stop] = []

    def stop_by(self, reason: Stop) -> bool:
        self.stops.append(reason)
        return True


async def test_beat_that_hangs_holds_up_no_other() -> None:
    run_task = LeasedRunTask()
    run_tasks = {RunId(new_id()): cast("RunTask", run_task)}
    heartbeat = UnresponsiveAtFirst(cast("Database", cast("Any", None)), Owner("me", "here:1"), 0.06, run_tasks)
    beating = asyncio.ensure_future(heartbeat.run())
    try:
        async with asyncio.timeout(5):
            await heartbeat.answered.wait()
    finally:
        heartbeat.released.set()
        beating.cancel()
        await asyncio.wait([beating])

    assert run_task.lease.valid_until_s > 0
    assert run_task.stops == []
