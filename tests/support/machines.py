"""Hypothesis' state machines for objects that live in an event loop.

The machine runs in a thread, its steps in the loop of the test, so that it can use the test's fixtures.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

_STEP_TIMEOUT_S = 30.0


class LoopMachine(RuleBasedStateMachine):
    """`do` runs a coroutine in the loop of the test and returns its result."""

    loop: asyncio.AbstractEventLoop

    def do[T](self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(_STEP_TIMEOUT_S)


async def explore(make: Callable[[], LoopMachine], *, examples: int, steps: int) -> None:
    """Runs `examples` histories of at most `steps` steps; prints the shrunk steps of one that fails."""
    loop = asyncio.get_running_loop()

    def made() -> LoopMachine:
        machine = make()
        machine.loop = loop
        return machine

    bounds = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        print_blob=True,
    )
    # Hypothesis also accepts a factory, as its documentation says; its annotation does not allow one.
    await asyncio.to_thread(run_state_machine_as_test, made, settings=bounds)  # type: ignore[arg-type]
