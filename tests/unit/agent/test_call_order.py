"""Calls that must not run next to others: they wait until they are alone, and keep others waiting."""

import asyncio
from collections.abc import Sequence

import pytest
from mesh_agent.graph.call_order import CallOrder


class Calls:
    """Records which calls run at the same time. A call ends once all others wait for it."""

    def __init__(self) -> None:
        self.order = CallOrder()
        self.running: set[int] = set()
        self.together: list[set[int]] = []

    async def call(self, number: int, *, is_parallel: bool) -> None:
        async with self.order.entering(is_parallel=is_parallel):
            self.running.add(number)
            for _ in range(20):
                await asyncio.sleep(0)
                self.together.append(set(self.running))
            self.running.discard(number)


@pytest.mark.parametrize("parallel", [(True, True), (False, False), (True, False, True), (False, True, True, False)])
async def test_only_parallel_calls_run_together(parallel: Sequence[bool]) -> None:
    calls = Calls()

    async with asyncio.TaskGroup() as group:
        for number, is_parallel in enumerate(parallel):
            group.create_task(calls.call(number, is_parallel=is_parallel))

    apart = {number for number, is_parallel in enumerate(parallel) if not is_parallel}
    assert all(len(together) == 1 for together in calls.together if together & apart)
    assert set().union(*calls.together) == set(range(len(parallel)))
    assert any(len(together) > 1 for together in calls.together) == (parallel.count(True) > 1)


async def test_call_that_is_cancelled_while_it_waits_keeps_nobody_waiting() -> None:
    order = CallOrder()
    async with order.entering(is_parallel=True):
        waiting = asyncio.ensure_future(_enter(order, is_parallel=False))
        await asyncio.sleep(0)
        waiting.cancel()

    async with asyncio.timeout(5):
        await _enter(order, is_parallel=False)


async def _enter(order: CallOrder, *, is_parallel: bool) -> None:
    async with order.entering(is_parallel=is_parallel):
        pass
