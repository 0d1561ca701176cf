"""A start whose caller has gone goes on; how it failed is told in one line."""

import asyncio
from collections.abc import Coroutine
from typing import Any, cast

import pytest
from mesh_agent.domain import Entitlements, RunInput
from mesh_agent.usecases.start import StartedRun, StartRun
from mesh_common.errors import Unavailable
from mesh_common.ids import UserId, new_id
from structlog.testing import capture_logs


class Neighbours:
    """The executor's and the entitlements' side of a start."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[Any]] = []
        self.has_spawned = asyncio.Event()

    def spawn[T](self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.ensure_future(work)
        self.tasks.append(task)
        self.has_spawned.set()
        return task

    async def of(self, user_id: UserId) -> Entitlements:
        del user_id
        return cast("Entitlements", None)


class FailsLate(StartRun):
    """Fails when `away` is set."""

    away = asyncio.Event()
    error: Exception = Unavailable("The database is away.")

    async def _start(self, user_id: UserId, run: RunInput, entitlements: Entitlements) -> StartedRun:
        del user_id, run, entitlements
        await self.away.wait()
        raise self.error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (Unavailable("Away."), {"event": "start.failed", "reason": "UNAVAILABLE"}),
        (RuntimeError("a bug"), {"event": "start.crashed"}),
    ],
)
async def test_failure_of_a_start_that_nobody_waits_for_is_logged(error: Exception, told: dict[str, str]) -> None:
    parts = cast("Any", Neighbours())
    start = FailsLate(parts, parts, parts, parts, parts, parts, 1, 1)
    FailsLate.away, FailsLate.error = asyncio.Event(), error
    calling = asyncio.ensure_future(start(UserId(new_id()), cast("RunInput", None)))
    await parts.has_spawned.wait()

    calling.cancel()
    with capture_logs() as logs:
        await asyncio.wait([calling])
        FailsLate.away.set()
        await asyncio.wait(parts.tasks)
        await asyncio.sleep(0)

    [line] = logs
    assert told.items() <= line.items()
