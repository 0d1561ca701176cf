"""What the agents of a team do, as events and on the bill of their run."""

import time

import pytest
from fakes.agent.loop_time import in_jumping_time
from fakes.agent.runs import a_model, an_owned_log
from mesh_agent.domain.attempts import Progress
from mesh_agent.domain.runs import Usage
from mesh_agent.domain.tools import ToolResult
from mesh_agent.execution.agents import AgentListener
from mesh_agent.execution.recorder import Recorder
from mesh_agent.tools.call import ToolCall
from mesh_common.events.model import (
    EventBody,
    MemberCompleted,
    MemberDelta,
    MessageCompleted,
    ToolFinished,
    ToolStarted,
)

CALL = ToolCall("c", "mark", {})
RESULT = ToolResult("c", "mark", "{}", "marked", is_error=False)
COST = Usage(3, 2, 5)


@pytest.fixture
def recorder() -> Recorder:
    made = Recorder(an_owned_log(), time.monotonic())
    made.start(Progress())
    made.begin_team("boss")
    return made


def _since_the_start(recorder: Recorder) -> list[EventBody]:
    return [event.body for event in recorder.log.events][1:]


def _say(listener: AgentListener, *texts: str) -> None:
    aside = listener.aside()
    aside.begin_round(lambda: 7)
    aside.on_model(a_model("a"))
    for text in texts:
        aside.on_text(text)
    aside.end_round(COST)


@in_jumping_time
async def test_what_a_member_says_is_a_message_of_its_own_and_no_part_of_the_answer(recorder: Recorder) -> None:
    _say(AgentListener(recorder).member("clerk"), "One ", "two ", "three.")

    first, rest, completed = _since_the_start(recorder)
    assert isinstance(completed, MemberCompleted)
    message_id = completed.message_id
    assert first == MemberDelta(message_id, "clerk", "One ")
    assert rest == MemberDelta(message_id, "clerk", "two three.")
    assert completed == MemberCompleted(message_id, "clerk", "One two three.", "a")
    assert (recorder.answer, message_id != str(recorder.message_id)) == ("", True)


@in_jumping_time
async def test_member_that_only_calls_tools_says_nothing(recorder: Recorder) -> None:
    _say(AgentListener(recorder).member("clerk"))

    assert _since_the_start(recorder) == []


@in_jumping_time
async def test_nobody_sees_what_the_run_s_own_assistant_says_aside(recorder: Recorder) -> None:
    listener = AgentListener(recorder)

    _say(listener, "Hm.")
    listener.repeat_aside("Hm.", "a")

    assert _since_the_start(recorder) == []


@in_jumping_time
async def test_text_of_an_earlier_attempt_is_repeated_whole(recorder: Recorder) -> None:
    AgentListener(recorder, "clerk").repeat_aside("One.", "a")

    [said] = _since_the_start(recorder)
    assert isinstance(said, MemberCompleted)
    assert (said.agent, said.content, said.model) == ("clerk", "One.", "a")


@in_jumping_time
async def test_calls_name_their_agent(recorder: Recorder) -> None:
    listener = AgentListener(recorder, "clerk")

    listener.tool_started(CALL)
    listener.tool_finished(CALL, RESULT)

    assert _since_the_start(recorder) == [ToolStarted("c", "mark", "{}", "clerk"), ToolFinished(RESULT, "clerk")]


@in_jumping_time
async def test_call_that_is_interrupted_has_a_result_and_one_that_is_paused_has_none(recorder: Recorder) -> None:
    listener, paused = AgentListener(recorder, "clerk"), ToolCall("p", "ask_clerk", {})

    listener.tool_started(CALL)
    listener.tool_started(paused)
    listener.tool_paused(paused)
    recorder.cancelled()

    finished = [body for body in _since_the_start(recorder) if isinstance(body, ToolFinished)]
    assert [(one.result.call_id, one.result.is_unknown, one.agent) for one in finished] == [("c", True, "clerk")]


@in_jumping_time
async def test_bill_is_split_by_agent_even_of_a_round_that_is_interrupted(recorder: Recorder) -> None:
    _say(AgentListener(recorder, "clerk"), "One.")
    poet = AgentListener(recorder, "poet")
    poet.begin_round(lambda: 7)
    poet.on_model(a_model("a"))
    poet.on_text("Roses")

    outcome = recorder.cancelled()

    assert list(outcome.billed_by_agent) == ["poet", "clerk"]
    assert outcome.billed_by_agent["clerk"] == COST
    total = outcome.billed_by_agent["clerk"].plus(outcome.billed_by_agent["poet"])
    assert total == outcome.usage
    assert (outcome.agent, outcome.answer) == ("poet", "Roses")


@in_jumping_time
async def test_answer_names_the_agent_that_has_the_conversation(recorder: Recorder) -> None:
    poet = AgentListener(recorder, "poet")
    poet.begin_round(lambda: 7)
    poet.on_model(a_model("a"))
    poet.on_text("Roses.")
    poet.end_round(COST)

    outcome = recorder.succeeded("stop")

    assert _since_the_start(recorder)[-1] == MessageCompleted(str(recorder.message_id), "Roses.", "a", "poet")
    assert outcome.billed_by_agent == {"poet": COST}
