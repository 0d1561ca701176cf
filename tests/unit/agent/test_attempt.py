"""What an attempt tells: deltas that joined are the answer, and what it cost, also when it was cut."""

import time
from collections.abc import Sequence

import pytest
from fakes.agent.loop_time import in_jumping_time
from fakes.agent.runs import a_model, an_owned_log
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_agent.domain import Outcome, Progress, RecalledMemory, RunError, RunStatus, ToolResult, Usage
from mesh_agent.events.coalescing import text_window
from mesh_agent.events.log import LeaseLostError
from mesh_agent.events.model import (
    EventBody,
    MemoryRecalled,
    MessageCompleted,
    MessageDelta,
    RunRestarted,
    RunStarted,
    ToolFinished,
    ToolStarted,
)
from mesh_agent.execution.recorder import Attempt
from mesh_agent.tools.call import ToolCall
from prometheus_client import REGISTRY

RESULT = ToolResult("c", "calculate", "{}", "42", is_error=False)
ERROR = RunError("MODEL_TIMEOUT", "Try again.", is_retryable=True)


def _attempt(number: int = 1) -> Attempt:
    return Attempt(an_owned_log(attempt=number), lambda: 0.0, time.monotonic())


def _told(attempt: Attempt) -> list[EventBody]:
    return [event.body for event in attempt.log.events]


def _deltas(attempt: Attempt) -> str:
    return "".join(body.text for body in _told(attempt) if isinstance(body, MessageDelta))


@in_jumping_time
async def test_a_first_attempt_opens_as_started() -> None:
    attempt = _attempt()

    attempt.start(Progress())

    assert _told(attempt) == [RunStarted(str(attempt.claim.thread_id))]


@in_jumping_time
async def test_a_later_attempt_repeats_what_it_builds_on() -> None:
    attempt = _attempt(2)

    attempt.start(Progress(texts=("I look it up.",), tool_results=(RESULT,), usage=Usage(1, 2, 3)))
    attempt.begin_round(lambda: 7)
    attempt.on_text("42.")
    outcome = attempt.succeeded("stop")

    assert _told(attempt)[0] == RunRestarted(str(attempt.claim.thread_id), (RESULT,))
    assert (_deltas(attempt), outcome.answer) == ("I look it up.\n\n42.", "I look it up.\n\n42.")
    assert attempt.has_checkpoints


@in_jumping_time
async def test_text_goes_out_before_what_comes_after_it() -> None:
    attempt = _attempt()
    call = ToolCall("c", "calculate", {})

    attempt.recalled([RecalledMemory("1", "likes tea", 0.9)], is_unavailable=False)
    for text in ("I", " look", " it up"):
        attempt.on_text(text)
    attempt.tool_started(call)
    attempt.tool_finished(call, RESULT)

    message_id = str(attempt.message_id)
    assert _told(attempt) == [
        MemoryRecalled((RecalledMemory("1", "likes tea", 0.9),), is_unavailable=False),
        MessageDelta(message_id, "I"),
        MessageDelta(message_id, " look it up"),
        ToolStarted("c", "calculate", "{}"),
        ToolFinished(RESULT),
    ]


def _end(attempt: Attempt, status: RunStatus) -> Outcome:
    match status:
        case RunStatus.SUCCEEDED:
            return attempt.succeeded("stop")
        case RunStatus.FAILED:
            return attempt.failed(ERROR)
        case _:
            return attempt.cancelled()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.text(min_size=1, max_size=4), max_size=4), max_size=4),
    st.sampled_from([status for status in RunStatus if status.is_ended]),
)
@in_jumping_time
async def test_deltas_joined_are_the_answer_however_it_ends(rounds: Sequence[Sequence[str]], status: RunStatus) -> None:
    attempt = _attempt()
    for texts in rounds:
        attempt.begin_round(lambda: 7)
        for text in texts:
            attempt.on_text(text)

    outcome = _end(attempt, status)

    assert outcome.status is status
    assert outcome.answer == _deltas(attempt) == "\n\n".join("".join(texts) for texts in rounds if texts)
    if status is RunStatus.SUCCEEDED:
        assert _told(attempt)[-1] == MessageCompleted(str(attempt.message_id), outcome.answer, attempt.model)


@in_jumping_time
async def test_a_round_that_was_cut_costs_its_prompt_and_what_it_said() -> None:
    attempt = _attempt()
    attempt.begin_round(lambda: 100)
    attempt.on_model(a_model())
    attempt.on_text("Well")
    attempt.end_round(Usage(10, 1, 12))
    attempt.begin_round(lambda: 7)
    attempt.on_model(a_model())
    attempt.on_text("Hm")
    attempt.on_text("...")

    assert attempt.cancelled().usage == Usage(17, 3, 12 + 7 + 4)


@in_jumping_time
async def test_a_round_that_is_cut_before_its_first_token_costs_its_prompt() -> None:
    attempt = _attempt()
    attempt.begin_round(lambda: 7)
    attempt.on_model(a_model())

    assert attempt.cancelled().usage == Usage(7, 0, 7)


@in_jumping_time
async def test_a_round_in_which_no_model_was_asked_costs_nothing() -> None:
    attempt = _attempt()
    attempt.begin_round(lambda: 7)

    assert attempt.cancelled().usage == Usage()


@in_jumping_time
async def test_a_provider_that_failed_before_it_said_anything_costs_nothing() -> None:
    attempt = _attempt()
    attempt.begin_round(lambda: 7)
    attempt.on_model(a_model())
    attempt.fail_round()

    assert attempt.failed(ERROR).usage == Usage()


@in_jumping_time
async def test_a_provider_that_failed_in_its_answer_costs_what_it_read_and_said() -> None:
    attempt = _attempt()
    attempt.begin_round(lambda: 7)
    attempt.on_model(a_model())
    attempt.on_text("Well")
    attempt.fail_round()

    assert attempt.failed(ERROR).usage == Usage(7, 1, 9)


@in_jumping_time
async def test_a_round_that_ended_costs_what_the_provider_tells() -> None:
    attempt = _attempt()
    attempt.begin_round(lambda: pytest.fail("counted a prompt that the provider counts"))
    attempt.on_model(a_model())
    attempt.on_text("Well")
    attempt.end_round(Usage(10, 20, 50))

    assert attempt.succeeded("stop").usage == Usage(10, 20, 50)


@in_jumping_time
async def test_what_was_repeated_from_before_is_not_paid_twice() -> None:
    attempt = _attempt(2)
    attempt.start(Progress(texts=("Well",), usage=Usage(10, 20, 50)))
    attempt.begin_round(lambda: 7)
    attempt.on_model(a_model())

    assert attempt.cancelled().usage == Usage(17, 20, 57)


def _first_tokens() -> tuple[float, float]:
    count, total = (REGISTRY.get_sample_value(f"mesh_agent_first_token_seconds_{part}") for part in ("count", "sum"))
    return count or 0.0, total or 0.0


@in_jumping_time
async def test_the_first_new_token_is_timed_from_the_claim_and_what_is_repeated_is_not() -> None:
    attempt = Attempt(an_owned_log(attempt=2), lambda: 0.0, time.monotonic() - 100)
    count, total = _first_tokens()

    attempt.start(Progress(texts=("Well",), usage=Usage(10, 20, 50)))
    repeated = _first_tokens()
    attempt.begin_round(lambda: 7)
    attempt.on_text("Hm")
    attempt.on_text("...")

    assert repeated == (count, total)
    assert _first_tokens()[0] == count + 1
    assert _first_tokens()[1] - total == pytest.approx(100, abs=5)


@in_jumping_time
async def test_the_model_that_answered_is_told_whoever_was_asked_before() -> None:
    attempt = _attempt()
    attempt.on_model(a_model("large"))
    attempt.on_model(a_model("small"))

    assert attempt.succeeded("stop").model == "small"


@in_jumping_time
async def test_an_attempt_that_lost_its_lease_cannot_end() -> None:
    attempt = _attempt()
    attempt.on_text("Well")
    attempt.log.holds_lease = lambda: False

    with pytest.raises(LeaseLostError):
        attempt.succeeded("stop")


@pytest.mark.parametrize("load", [0.0, 1.0])
def test_text_that_was_heard_is_told_before_more_gathers(load: float) -> None:
    attempt = Attempt(an_owned_log(), lambda: load, time.monotonic())
    for text in ("I", " look", " it up"):
        attempt.on_text(text)

    window = attempt.next_window()

    message_id = str(attempt.message_id)
    assert _told(attempt) == [MessageDelta(message_id, "I"), MessageDelta(message_id, " look it up")]
    assert window == text_window(load)


def test_a_lease_lost_while_text_gathers_is_noticed_before_more_is_heard() -> None:
    attempt = _attempt()
    attempt.on_text("I")
    attempt.on_text(" look")
    attempt.log.holds_lease = lambda: False

    with pytest.raises(LeaseLostError):
        attempt.next_window()
