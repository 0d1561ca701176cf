"""A cancelled attempt ends within the run's time, also if the result of earlier attempts cannot be read."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fakes.agent.loop_time import in_jumping_time
from fakes.agent.runs import an_owned_log
from mesh_agent.domain.attempts import Progress
from mesh_agent.domain.runs import RunStatus, Usage
from mesh_agent.execution.attempt import AttemptParts, cancel_attempt
from mesh_agent.execution.recorder import Recorder
from mesh_common.errors import Unavailable


class FakeLoop:
    """The stored result of earlier attempts."""

    checkpoints = None

    def __init__(self, stored: Progress | None, *, hangs: bool = False) -> None:
        self.stored = stored
        self.hangs = hangs

    @asynccontextmanager
    async def open(self, *_: Any) -> AsyncIterator["FakeLoop"]:
        yield self

    async def progress(self) -> Progress:
        if self.hangs:
            await asyncio.Event().wait()
        if self.stored is None:
            raise Unavailable("PostgreSQL cannot be reached.")
        return self.stored


def _parts(loop: FakeLoop) -> AttemptParts:
    return cast("AttemptParts", SimpleNamespace(loop=loop))


@pytest.mark.parametrize("hangs", [False, True], ids=["away", "hangs"])
@in_jumping_time
async def test_cancelled_attempt_does_not_outlive_the_time_of_its_run(*, hangs: bool) -> None:
    recorder = Recorder(an_owned_log(attempt=2), time.monotonic())
    began_at_s = asyncio.get_running_loop().time()
    recorder.deadline_s = began_at_s + 30

    outcome = await cancel_attempt(recorder, _parts(FakeLoop(None, hangs=hangs)))

    assert outcome.status is RunStatus.CANCELLED
    assert outcome.answer == ""
    assert asyncio.get_running_loop().time() - began_at_s == pytest.approx(30, abs=1)


@in_jumping_time
async def test_cancelled_attempt_keeps_the_result_of_earlier_ones() -> None:
    recorder = Recorder(an_owned_log(attempt=2), time.monotonic())
    recorder.deadline_s = asyncio.get_running_loop().time() + 30
    stored = Progress(texts=("Well",), billed={"large": Usage(1, 2, 3)}, model="large")

    outcome = await cancel_attempt(recorder, _parts(FakeLoop(stored)))

    assert (outcome.answer, outcome.billed, outcome.model) == ("Well", {"large": Usage(1, 2, 3)}, "large")
