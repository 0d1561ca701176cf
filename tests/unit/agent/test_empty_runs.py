"""A run in which the model says nothing is no success, however it ends."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fakes.agent.runs import a_plan, an_owned_log
from mesh_agent.domain.attempts import Outcome, Progress
from mesh_agent.domain.entitlements import Entitlements
from mesh_agent.domain.runs import RunStatus
from mesh_agent.execution.attempt import AttemptParts, run_attempt
from mesh_agent.execution.recorder import Recorder


class SayingLoop:
    """A model that says these texts, one in each round, and then ends."""

    checkpoints = None

    def __init__(self, texts: tuple[str, ...]) -> None:
        self._texts = texts

    @asynccontextmanager
    async def open(self, *_: Any) -> AsyncIterator["SayingLoop"]:
        yield self

    async def progress(self) -> Progress:
        return Progress()

    async def run(self, _: object, recorder: Recorder) -> str:
        for text in self._texts:
            recorder.begin_round(lambda: 1)
            if text:
                recorder.on_text(text)
        return "tool_rounds"


class Plans:
    default = a_plan("large")

    async def of(self, *_: object) -> object:
        return self.default


class AnyEntitlements:
    default = Entitlements()

    async def known(self, _: object) -> Entitlements:
        return self.default


async def _run(*texts: str) -> Outcome:
    models = SimpleNamespace(of_plan=lambda _: ())
    parts = SimpleNamespace(
        database=None,
        loop=SayingLoop(texts),
        plans=Plans(),
        entitlements=AnyEntitlements(),
        models=models,
        memories=None,
    )
    return await run_attempt(Recorder(an_owned_log(), time.monotonic()), cast("AttemptParts", parts))


@pytest.mark.parametrize("texts", [(), ("",), ("", "", ""), (" ", "\n\n")])
async def test_run_without_a_word_fails(texts: tuple[str, ...]) -> None:
    outcome = await _run(*texts)

    assert outcome.status is RunStatus.FAILED
    assert outcome.error is not None
    assert (outcome.error.reason, outcome.error.is_retryable) == ("EMPTY_ANSWER", True)


async def test_words_of_an_earlier_round_are_an_answer() -> None:
    outcome = await _run("Let me look.", "")

    assert (outcome.status, outcome.answer, outcome.finish_reason) == (
        RunStatus.SUCCEEDED,
        "Let me look.",
        "tool_rounds",
    )
