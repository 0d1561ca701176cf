"""Two ways to drive a mesh: a constant number of concurrent calls, or a constant rate regardless of earlier calls."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

type Call[T] = Callable[[float], Coroutine[Any, Any, T]]


async def closed_loop[T](do: Call[T], *, count: int, at_once: int) -> list[T]:
    """The results of `count` calls, in the order in which they ended. Each call gets its start time."""
    done: list[T] = []
    left = iter(range(count))

    async def one_after_the_other() -> None:
        for _ in left:
            done.append(await do(time.monotonic()))  # noqa: PERF401 - shared by all workers

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(one_after_the_other())
    return done


async def open_loop[T](do: Call[T], *, count: int, rate: float) -> list[T]:
    """The results of `count` calls at `rate` per second, in order. Each call gets the time when it was due."""
    began_s = time.monotonic()
    async with asyncio.TaskGroup() as group:
        tasks = []
        for number in range(count):
            due_s = began_s + number / rate
            await asyncio.sleep(due_s - time.monotonic())
            tasks.append(group.create_task(do(due_s)))
    return [task.result() for task in tasks]
