"""The recorder: the joined deltas are the answer, and the bill is right even for an interrupted attempt."""

import time
from collections.abc import Sequence

import pytest
from fakes.agent.loop_time import in_jumping_time
from fakes.agent.runs import a_model, an_owned_log
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_agent.domain.attempts import LeaseLostError, Outcome, Progress
from mesh_agent.domain.runs import RunError, RunStatus, Usage
from mesh_agent.domain.threads import RecalledMemory
from mesh_agent.domain.tools import ToolResult
from mesh_agent.events.coalescing import EARLY_S, TICK_S
from mesh_agent.execution.recorder import Recorder
from mesh_agent.llm.completion import AnswerFullError
from mesh_agent.tools.call import ToolCall
from mesh_common.events.model import (
    EventBody,
    MemoryRecalled,
    MessageCompleted,
    MessageDelta,
    RunRestarted,
    RunStarted,
    ToolFinished,
    ToolStarted,
)
from prometheus_client import REGISTRY

RESULT = ToolResult("c", "calculate", "{}", "42", is_error=False)
ERROR = RunError("MODEL_TIMEOUT", "Try again.", is_retryable=True)


def _recorder(number: int = 1) -> Recorder:
    return Recorder(an_owned_log(attempt=number), time.monotonic())


def _bodies(recorder: Recorder) -> list[EventBody]:
    return [event.body for event in recorder.log.events]


def _by_message(recorder: Recorder) -> dict[str, str]:
    """The deltas joined, by the id of their message."""
    texts: dict[str, str] = {}
    for body in _bodies(recorder):
        if isinstance(body, MessageDelta):
            texts[body.message_id] = texts.get(body.message_id, "") + body.text
    return texts


def _deltas(recorder: Recorder) -> str:
    return "".join(body.text for body in _bodies(recorder) if isinstance(body, MessageDelta))


@in_jumping_time
async def test_a_first_attempt_opens_as_started() -> None:
    recorder = _recorder()

    recorder.start(Progress())

    assert _bodies(recorder) == [RunStarted(str(recorder.claim.thread_id))]


@pytest.mark.parametrize(
    ("pieces", "answer"),
    [
        (["a" * 11], "a" * 10),
        (["a" * 9, "b", "c"], "a" * 9 + "b"),
        (["한글", "한글"], "한글한"),
        (["a" * 8, "한"], "a" * 8),
        (["\U0001f600" * 3], "\U0001f600" * 2),
    ],
)
@in_jumping_time
async def test_answer_takes_no_more_than_its_bytes_and_whole_characters(pieces: list[str], answer: str) -> None:
    recorder = Recorder(an_owned_log(), time.monotonic(), max_answer_bytes=10)
    recorder.start(Progress())
    recorder.begin_round(lambda: 7)
    recorder.on_model(a_model("a"))

    for piece in pieces[:-1]:
        recorder.on_text(piece)
    with pytest.raises(AnswerFullError):
        recorder.on_text(pieces[-1])
    cut = recorder.cut_round()
    outcome = recorder.succeeded("length")

    assert cut.text == outcome.answer == _deltas(recorder) == answer
    assert outcome.usage == cut.usage
    assert outcome.usage.input_tokens == 7


@in_jumping_time
async def test_full_answer_takes_nothing_in_a_later_round() -> None:
    recorder = Recorder(an_owned_log(), time.monotonic(), max_answer_bytes=2)
    recorder.start(Progress())
    recorder.begin_round(lambda: 7)
    recorder.on_model(a_model())
    recorder.on_text("ab")
    recorder.end_round(Usage(1, 1, 1))
    recorder.begin_round(lambda: 7)
    recorder.on_model(a_model())

    with pytest.raises(AnswerFullError):
        recorder.on_text("c")

    assert recorder.cut_round().text == ""
    assert recorder.succeeded("length").answer == "ab"


@in_jumping_time
async def test_long_arguments_are_shown_in_part() -> None:
    recorder = _recorder()
    recorder.start(Progress())

    call = ToolCall("c", "look_up", {"a": "b" * 100_000})
    recorder.tool_started(call)
    recorder.tool_finished(call, ToolResult("c", "look_up", call.arguments_json, "found", is_error=False))

    [started] = [body for body in _bodies(recorder) if isinstance(body, ToolStarted)]
    [finished] = [body for body in _bodies(recorder) if isinstance(body, ToolFinished)]
    assert len(started.arguments_json) == len(finished.result.arguments_json) == 65_536


@in_jumping_time
async def test_a_later_attempt_repeats_what_it_builds_on() -> None:
    recorder = _recorder(2)

    recorder.start(Progress(texts=("I look it up.",), tool_results=(RESULT,), billed={"large": Usage(1, 2, 3)}))
    recorder.begin_round(lambda: 7)
    recorder.on_text("42.")
    outcome = recorder.succeeded("stop")

    assert _bodies(recorder)[0] == RunRestarted(str(recorder.claim.thread_id), (RESULT,))
    assert ([one.content for one in outcome.interim], outcome.answer) == (["I look it up."], "42.")
    assert _by_message(recorder) == {str(outcome.interim[0].id): "I look it up.", str(outcome.message_id): "42."}
    assert recorder.has_checkpoints


@in_jumping_time
async def test_graph_in_code_writes_one_message_paragraph_by_paragraph() -> None:
    recorder = _recorder(2)

    recorder.start(Progress(texts=("One.", "Two."), is_one_message=True))
    recorder.say("Three.")
    outcome = recorder.succeeded("stop")

    assert (outcome.answer, outcome.interim) == ("One.\n\nTwo.\n\nThree.", ())
    assert _by_message(recorder) == {str(outcome.message_id): outcome.answer}


@in_jumping_time
async def test_text_goes_out_before_what_comes_after_it() -> None:
    recorder = _recorder()
    call = ToolCall("c", "calculate", {})

    recorder.recalled([RecalledMemory("1", "likes tea", 0.9)], is_unavailable=False)
    for text in ("I", " look", " it up"):
        recorder.on_text(text)
    recorder.tool_started(call)
    recorder.tool_finished(call, RESULT)

    message_id = str(recorder.message_id)
    assert _bodies(recorder) == [
        MemoryRecalled((RecalledMemory("1", "likes tea", 0.9),), is_unavailable=False),
        MessageDelta(message_id, "I"),
        MessageDelta(message_id, " look it up"),
        ToolStarted("c", "calculate", "{}"),
        ToolFinished(RESULT),
    ]


def _end(recorder: Recorder, status: RunStatus) -> Outcome:
    match status:
        case RunStatus.SUCCEEDED:
            return recorder.succeeded("stop")
        case RunStatus.FAILED:
            return recorder.failed(ERROR)
        case _:
            return recorder.cancelled()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.text(min_size=1, max_size=4), max_size=4), max_size=4),
    st.sampled_from([RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED]),
)
@in_jumping_time
async def test_deltas_of_a_message_are_its_text_however_the_run_ends(
    rounds: Sequence[Sequence[str]], status: RunStatus
) -> None:
    recorder = _recorder()
    for texts in rounds:
        recorder.begin_round(lambda: 7)
        for text in texts:
            recorder.on_text(text)

    outcome = _end(recorder, status)

    said = {str(one.id): one.content for one in outcome.interim}
    said |= {str(outcome.message_id): outcome.answer} if outcome.answer else {}
    assert outcome.status is status
    assert list(said.values()) == ["".join(texts) for texts in rounds if texts]
    assert _by_message(recorder) == said
    completed = {body.message_id: body.content for body in _bodies(recorder) if isinstance(body, MessageCompleted)}
    assert completed.items() >= {str(one.id): one.content for one in outcome.interim}.items()
    if status is RunStatus.SUCCEEDED:
        assert _bodies(recorder)[-1] == MessageCompleted(str(recorder.message_id), outcome.answer, recorder.model)


@in_jumping_time
async def test_a_round_that_was_cut_costs_its_prompt_and_what_it_said() -> None:
    recorder = _recorder()
    recorder.begin_round(lambda: 100)
    recorder.on_model(a_model())
    recorder.on_text("Well")
    recorder.end_round(Usage(10, 1, 12))
    recorder.begin_round(lambda: 7)
    recorder.on_model(a_model())
    recorder.on_text("Hm")
    recorder.on_text("...")

    assert recorder.cancelled().usage == Usage(17, 3, 12 + 7 + 4)


@in_jumping_time
async def test_a_round_that_is_cut_before_its_first_token_costs_its_prompt() -> None:
    recorder = _recorder()
    recorder.begin_round(lambda: 7)
    recorder.on_model(a_model())

    assert recorder.cancelled().usage == Usage(7, 0, 7)


@in_jumping_time
async def test_a_round_in_which_no_model_was_asked_costs_nothing() -> None:
    recorder = _recorder()
    recorder.begin_round(lambda: 7)

    assert recorder.cancelled().usage == Usage()


@in_jumping_time
async def test_a_provider_that_failed_before_it_said_anything_costs_nothing() -> None:
    recorder = _recorder()
    recorder.begin_round(lambda: 7)
    recorder.on_model(a_model())
    recorder.fail_round()

    assert recorder.failed(ERROR).usage == Usage()


@in_jumping_time
async def test_a_provider_that_failed_in_its_answer_costs_what_it_read_and_said() -> None:
    recorder = _recorder()
    recorder.begin_round(lambda: 7)
    recorder.on_model(a_model())
    recorder.on_text("Well")
    recorder.fail_round()

    assert recorder.failed(ERROR).usage == Usage(7, 1, 9)


@in_jumping_time
async def test_a_round_that_ended_costs_what_the_provider_tells() -> None:
    recorder = _recorder()
    recorder.begin_round(lambda: pytest.fail("counted a prompt that the provider counts"))
    recorder.on_model(a_model())
    recorder.on_text("Well")
    recorder.end_round(Usage(10, 20, 50))

    assert recorder.succeeded("stop").usage == Usage(10, 20, 50)


@in_jumping_time
async def test_what_was_repeated_from_before_is_not_paid_twice() -> None:
    recorder = _recorder(2)
    recorder.start(Progress(texts=("Well",), billed={"large": Usage(10, 20, 50)}))
    recorder.begin_round(lambda: 7)
    recorder.on_model(a_model())

    assert recorder.cancelled().usage == Usage(17, 20, 57)


@in_jumping_time
async def test_each_model_that_answered_is_billed_and_one_that_failed_is_not() -> None:
    recorder = _recorder(2)
    recorder.start(Progress(texts=("Well",), billed={"large": Usage(10, 20, 50)}))
    recorder.begin_round(lambda: 7)
    recorder.on_model(a_model("large"))
    recorder.on_model(a_model("small"))
    recorder.end_round(Usage(100, 5, 110))
    recorder.begin_round(lambda: 7)
    recorder.on_model(a_model("large"))
    recorder.end_round(Usage(1, 1, 3))
    recorder.begin_round(lambda: 7)
    recorder.on_model(a_model("broken"))
    recorder.fail_round()

    outcome = recorder.failed(ERROR)

    assert outcome.billed == {"large": Usage(11, 21, 53), "small": Usage(100, 5, 110)}
    assert list(outcome.billed) == ["large", "small"]
    assert outcome.usage == Usage(111, 26, 163)


def _first_tokens() -> tuple[float, float]:
    count, total = (REGISTRY.get_sample_value(f"mesh_agent_first_token_seconds_{part}") for part in ("count", "sum"))
    return count or 0.0, total or 0.0


@in_jumping_time
async def test_the_first_new_token_is_timed_from_the_claim_and_what_is_repeated_is_not() -> None:
    recorder = Recorder(an_owned_log(attempt=2), time.monotonic() - 100)
    count, total = _first_tokens()

    recorder.start(Progress(texts=("Well",), billed={"large": Usage(10, 20, 50)}))
    repeated = _first_tokens()
    recorder.begin_round(lambda: 7)
    recorder.on_text("Hm")
    recorder.on_text("...")

    assert repeated == (count, total)
    assert _first_tokens()[0] == count + 1
    assert _first_tokens()[1] - total == pytest.approx(100, abs=5)


@in_jumping_time
async def test_the_model_that_answered_is_told_whoever_was_asked_before() -> None:
    recorder = _recorder()
    recorder.on_model(a_model("large"))
    recorder.on_model(a_model("small"))

    assert recorder.succeeded("stop").model == "small"


@in_jumping_time
async def test_an_attempt_that_lost_its_lease_cannot_end() -> None:
    recorder = _recorder()
    recorder.on_text("Well")
    recorder.log.holds_lease = lambda: False

    with pytest.raises(LeaseLostError):
        recorder.succeeded("stop")


def test_text_that_was_heard_is_told_before_more_gathers() -> None:
    recorder = _recorder()
    for text in ("I", " look", " it up"):
        recorder.on_text(text)

    window = recorder.until_tick_s()

    message_id = str(recorder.message_id)
    assert _bodies(recorder) == [MessageDelta(message_id, "I"), MessageDelta(message_id, " look it up")]
    assert 0 < window <= EARLY_S + TICK_S


def test_a_lease_lost_while_text_gathers_is_noticed_before_more_is_heard() -> None:
    recorder = _recorder()
    recorder.on_text("I")
    recorder.on_text(" look")
    recorder.log.holds_lease = lambda: False

    with pytest.raises(LeaseLostError):
        recorder.until_tick_s()
