"""Work whose caller has gone goes on; how it failed is told in one line, once."""

import asyncio
from collections.abc import MutableMapping, Sequence
from contextlib import suppress
from copy import copy
from typing import Any

import pytest
from mesh_agent.execution.detached import await_detached
from mesh_common.errors import Unavailable
from structlog.testing import capture_logs
from support.cycles import cycles_left_by


async def _fail(error: Exception, when: asyncio.Event) -> str:
    await when.wait()
    raise copy(error)  # its traceback holds this frame: the same one would make a cycle


async def _give(what: str, when: asyncio.Event) -> str:
    await when.wait()
    return what


def _told(logs: Sequence[MutableMapping[str, Any]]) -> list[MutableMapping[str, Any]]:
    """Others work, and log, in the same process."""
    return [line for line in logs if line["event"].startswith("detached.")]


async def _abandoned(work: asyncio.Task[str], goes_on: asyncio.Event) -> list[MutableMapping[str, Any]]:
    """What is told of work that ends after whoever waited for it has gone."""
    waiting = asyncio.ensure_future(await_detached(work, "start"))
    await asyncio.sleep(0)  # to where it waits
    with capture_logs() as logs:
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        goes_on.set()
        await asyncio.wait([work])
        await asyncio.sleep(0)  # to what hears of its end
    return _told(logs)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (Unavailable("Away."), {"event": "detached.failed", "work": "start", "reason": "UNAVAILABLE"}),
        (RuntimeError("a bug"), {"event": "detached.crashed", "work": "start"}),
    ],
)
async def test_failure_that_nobody_waits_for_is_told(error: Exception, told: dict[str, str]) -> None:
    goes_on = asyncio.Event()
    work = asyncio.ensure_future(_fail(error, goes_on))

    [line] = await _abandoned(work, goes_on)

    assert told.items() <= line.items()


async def test_work_whose_caller_has_gone_goes_on_to_its_end() -> None:
    goes_on = asyncio.Event()
    work = asyncio.ensure_future(_give("a run", goes_on))

    told = await _abandoned(work, goes_on)

    assert work.result() == "a run"
    assert not told


async def test_failure_is_its_callers_and_leaves_no_cycle() -> None:
    at_once = asyncio.Event()
    at_once.set()

    async def wait() -> None:
        with suppress(Unavailable):
            await await_detached(asyncio.ensure_future(_fail(Unavailable("Away."), at_once)), "start")

    with capture_logs() as logs:
        assert not await cycles_left_by(wait, within=("mesh_agent.execution.detached", "mesh_common.errors"))
    assert not _told(logs)
