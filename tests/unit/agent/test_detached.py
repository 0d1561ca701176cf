"""Work continues without its caller, and its failure is logged in one line, once."""

import asyncio
from collections.abc import MutableMapping, Sequence
from copy import copy
from typing import Any

import pytest
from mesh_agent.execution.detached import await_detached
from mesh_common.errors import Unavailable
from structlog.testing import capture_logs


async def _fail(error: Exception, when: asyncio.Event) -> str:
    await when.wait()
    raise copy(error)  # a shared error would be a reference cycle: its traceback holds this frame


async def _give(what: str, when: asyncio.Event) -> str:
    await when.wait()
    return what


def _detached_lines(logs: Sequence[MutableMapping[str, Any]]) -> list[MutableMapping[str, Any]]:
    """Only these: other code logs in the same process."""
    return [line for line in logs if line["event"].startswith("detached.")]


async def _abandoned(work: asyncio.Task[str], goes_on: asyncio.Event) -> list[MutableMapping[str, Any]]:
    """The log lines about work that ends after its caller was cancelled."""
    waiting = asyncio.ensure_future(await_detached(work, "start"))
    await asyncio.sleep(0)  # until it waits for the work
    with capture_logs() as logs:
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        goes_on.set()
        await asyncio.wait([work])
        await asyncio.sleep(0)  # until the done callback has run
    return _detached_lines(logs)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Unavailable("Away."), {"event": "detached.failed", "work": "start", "reason": "UNAVAILABLE"}),
        (RuntimeError("a bug"), {"event": "detached.crashed", "work": "start"}),
    ],
)
async def test_failure_that_nobody_waits_for_is_told(error: Exception, expected: dict[str, str]) -> None:
    goes_on = asyncio.Event()
    work = asyncio.ensure_future(_fail(error, goes_on))

    [line] = await _abandoned(work, goes_on)

    assert expected.items() <= line.items()


async def test_work_whose_caller_has_gone_goes_on_to_its_end() -> None:
    goes_on = asyncio.Event()
    work = asyncio.ensure_future(_give("a run", goes_on))

    lines = await _abandoned(work, goes_on)

    assert work.result() == "a run"
    assert not lines


async def test_failure_is_its_callers_while_the_caller_waits() -> None:
    at_once = asyncio.Event()
    at_once.set()

    with capture_logs() as logs, pytest.raises(Unavailable):
        await await_detached(asyncio.ensure_future(_fail(Unavailable("Away."), at_once)), "start")

    assert not _detached_lines(logs)
