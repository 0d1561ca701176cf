"""Runs several starts concurrently and reports which are still pending."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from mesh_dev.console import Stopwatch
from mesh_dev.errors import DevError

INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True)
class Progress:
    say: Callable[[str], None]

    async def all_ready(self, starts: Mapping[str, Callable[[], Awaitable[object]]]) -> None:
        """Starts all concurrently and waits for all. Prints a line for each that is ready and one per second meanwhile.

        Raises:
            DevError: the first failure; the others are cancelled.
        """
        watch = Stopwatch()
        pending = dict.fromkeys(starts)
        done = asyncio.Event()

        async def start(name: str) -> None:
            await starts[name]()
            del pending[name]
            self.say(f"{name} ready after {watch.elapsed_s:.1f} s")
            if not pending:
                done.set()

        async def report() -> None:
            while not await _is_set_within(done, INTERVAL_S):
                self.say(f"waiting for {', '.join(pending)} … {watch.elapsed_s:.0f} s")

        await together(*(start(name) for name in starts), report())


async def together(*work: Awaitable[object]) -> None:
    """Runs all concurrently. The first that fails cancels the others.

    Raises:
        DevError: the first failure, not in a group.
    """

    async def finish(one: Awaitable[object]) -> None:
        await one

    try:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(finish(one))
    except* DevError as failures:
        first = failures.exceptions[0]
    else:
        return
    raise first


async def _is_set_within(event: asyncio.Event, timeout_s: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()
    return event.is_set()
