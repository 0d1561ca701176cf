"""Doing several things at once, and saying meanwhile which of them are waited for."""

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
        """Start all at once and wait for all; a line for each that is ready, and one a second for the others.

        Raises:
            DevError: the first failure; the others are cancelled.
        """
        watch = Stopwatch()
        waiting = dict.fromkeys(starts)
        done = asyncio.Event()

        async def start(name: str) -> None:
            await starts[name]()
            del waiting[name]
            self.say(f"{name} ready after {watch.elapsed_s:.1f} s")
            if not waiting:
                done.set()

        async def speak() -> None:
            while not await _is_set_within(done, INTERVAL_S):
                self.say(f"waiting for {', '.join(waiting)} … {watch.elapsed_s:.0f} s")

        await together(*(start(name) for name in starts), speak())


async def together(*work: Awaitable[object]) -> None:
    """All at once; the first that fails cancels the others.

    Raises:
        DevError: the first failure, by itself and not in a group.
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
