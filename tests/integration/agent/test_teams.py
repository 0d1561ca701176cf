"""Teams: a supervisor with members, and agents that pass a conversation on. Their answers, events, bills and bounds."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from mesh.agent.v1 import agent_pb2 as pb
from mesh_common.database.postgres import Database
from mesh_common.errors import PreconditionFailed
from mesh_common.subject import ADMIN
from simulator.client import SimulatorAdmin
from support.agent import AgentUnderTest, Followed, some_user
from support.approval import REJECT, asked, decision, resume, resume_request, stored
from support.mesh import TestMesh
from support.spans import RecordedSpans, spans
from support.subjects import personal
from support.teams import CLERK, HANDOFF, POET, SUPERVISOR, Specs, TeamOpening, asks, marks, says, team_agent
from support.tool_server import ToolServer

__all__ = ["spans"]

NESTED: Specs = {
    "default": {"kind": "supervisor", "members": ["office"]},
    "office": {"kind": "supervisor", "instructions": "You are the office.", "members": ["clerk"]},
    "clerk": CLERK,
}


@pytest.fixture
def opening(own_mesh: TestMesh, model_url: str, tmp_path: Path, tool: ToolServer) -> TeamOpening:
    return partial(team_agent, own_mesh, model_url, tmp_path, tool)


def _members(turn: Followed) -> list[tuple[str, str]]:
    events = [event.member_completed for event in turn.events if event.HasField("member_completed")]
    return [(event.agent, event.content) for event in events]


async def test_members_answer_the_supervisor_who_answers_the_user(opening: TeamOpening, tool: ToolServer) -> None:
    user_id = some_user()
    message = f"{asks('clerk', marks())} {asks('poet', says('Roses are red.'))} {says('All done: {tool_result}')}"
    async with opening(SUPERVISOR) as agent:
        turn = await agent.run(user_id, message)
        run = await agent.get_run(user_id, turn.run_id)
    started = [event.tool_started for event in turn.events if event.HasField("tool_started")]
    finished = [event.tool_finished for event in turn.events if event.HasField("tool_finished")]
    deltas = "".join(event.member_delta.text for event in turn.events if event.HasField("member_delta"))

    assert turn.text.startswith("All done: ")
    assert "It says marked." in turn.text
    assert _members(turn) == [("clerk", "It says marked."), ("poet", "Roses are red.")]
    assert deltas == "It says marked.Roses are red."
    assert [(one.tool, one.agent) for one in started] == [("ask_clerk", ""), ("mark", "clerk"), ("ask_poet", "")]
    assert [(one.tool, one.agent) for one in finished] == [("mark", "clerk"), ("ask_clerk", ""), ("ask_poet", "")]
    assert [call.arguments for call in tool.calls] == [{"token": "t-1"}]
    assert set(run.usage_by_agent) == {"default", "clerk", "poet"}
    total = sum(usage.output_tokens for usage in run.usage_by_agent.values())
    assert total == run.usage.output_tokens == turn.last.run_finished.usage.output_tokens
    assert (run.message.content, run.message.agent) == (turn.text, "")
    assert not [event for event in turn.events if event.HasField("step_started")]


async def test_member_has_its_own_instructions_and_sees_its_task_alone(opening: TeamOpening) -> None:
    async with opening(SUPERVISOR) as agent:
        turn = await agent.run(some_user(), f"{asks('poet', '[[sim:prompt]]')} {says('{tool_result}')}")

    assert turn.text.strip() == "You are the poet."


async def test_members_of_members_work(opening: TeamOpening, tool: ToolServer) -> None:
    inner = f"{asks('clerk', marks())} {says('The office: {tool_result}')}"
    async with opening(NESTED) as agent:
        turn = await agent.run(some_user(), f"{asks('office', inner)} {says('{tool_result}')}")

    assert turn.text == "The office: It says marked."
    assert _members(turn) == [("clerk", "It says marked."), ("office", "The office: It says marked.")]
    assert len(tool.calls) == 1


async def test_call_of_a_member_waits_for_approval_and_what_came_before_is_not_repeated(
    opening: TeamOpening, tool: ToolServer, own_database: Database
) -> None:
    user_id = some_user()
    message = f"{asks('poet', says('Roses.'))} {asks('clerk', marks())} {says('Done: {tool_result}')}"
    async with opening(SUPERVISOR, approval="always") as agent:
        turn = await agent.run(user_id, message)
        [question] = asked(turn)
        before = len(tool.calls)
        resumed = await resume(agent, user_id, resume_request(turn.run_id, decision(question.call_id)))

    assert (question.tool, question.arguments_json) == ("mark", '{"token":"t-1"}')
    assert _members(turn) == [("poet", "Roses.")]
    assert before == 0
    assert len(tool.calls) == 1
    assert _members(resumed) == [("clerk", "It says marked.")]
    assert "It says marked." in resumed.text
    assert await stored(own_database, turn.run_id) == 0


async def test_members_work_at_the_same_time_and_ask_for_approval_together(
    opening: TeamOpening, simulator: SimulatorAdmin, tool: ToolServer
) -> None:
    """Their models give both calls the same id."""
    user_id = some_user()
    calls = [{"name": f"ask_{name}", "arguments": {"task": marks(name)}} for name in ("clerk", "boss")]
    await simulator.put_rules(
        [{"match": {"contains": "Both!"}, "action": {"tool_calls": calls, "reply": "Both: {tool_result}"}}]
    )
    specs = {**SUPERVISOR, "default": {"kind": "supervisor", "members": ["clerk", "boss"]}, "boss": CLERK}
    async with opening(specs, approval="always") as agent:
        turn = await agent.run(user_id, "Both!")
        questions = asked(turn)
        decisions = [decision(question.call_id) for question in questions]
        resumed = await resume(agent, user_id, resume_request(turn.run_id, *decisions))

    assert sorted(question.arguments_json for question in questions) == ['{"token":"boss"}', '{"token":"clerk"}']
    assert len({question.call_id for question in questions}) == 2
    assert sorted(call.arguments["token"] for call in tool.calls) == ["boss", "clerk"]
    assert sorted(_members(resumed)) == [("boss", "It says marked."), ("clerk", "It says marked.")]
    assert resumed.text.startswith("Both: ")


async def test_rejection_reaches_the_member(opening: TeamOpening, tool: ToolServer) -> None:
    user_id = some_user()
    async with opening(SUPERVISOR, approval="always") as agent:
        turn = await agent.run(user_id, f"{asks('clerk', marks())} {says('{tool_result}')}")
        [question] = asked(turn)
        request = resume_request(turn.run_id, decision(question.call_id, REJECT, message="Not now."))
        resumed = await resume(agent, user_id, request)

    assert "A person rejected this call" in resumed.text
    assert tool.calls == []


async def test_conversation_is_passed_on_and_stays_there(opening: TeamOpening) -> None:
    user_id = some_user()
    async with opening(HANDOFF) as agent:
        turn = await agent.run(user_id, f"[[sim:tool=transfer_to_poet {{}}]] {says('Roses are red.')}")
        again = await agent.run(user_id, "[[sim:prompt]]", thread_id=turn.thread_id)
        back = await agent.run(
            user_id, f"[[sim:tool=transfer_to_default {{}}]] {says('Hello.')}", thread_id=turn.thread_id
        )
        run = await agent.get_run(user_id, turn.run_id)
        messages = await agent.messages(user_id, turn.thread_id)
    completed = [event.message_completed for event in turn.events if event.HasField("message_completed")]

    assert turn.text == "Roses are red."
    assert [(one.agent, one.content) for one in completed] == [("poet", "Roses are red.")]
    assert set(run.usage_by_agent) == {"default", "poet"}
    assert again.text.strip() == "You are the poet."
    assert back.text == "Hello."
    assert [(one.role, one.agent) for one in messages] == [
        (pb.MESSAGE_ROLE_USER, ""),
        (pb.MESSAGE_ROLE_ASSISTANT, "poet"),
        (pb.MESSAGE_ROLE_USER, ""),
        (pb.MESSAGE_ROLE_ASSISTANT, "poet"),
        (pb.MESSAGE_ROLE_USER, ""),
        (pb.MESSAGE_ROLE_ASSISTANT, ""),
    ]


async def test_agents_that_pass_a_conversation_around_are_stopped(opening: TeamOpening) -> None:
    around = "[[sim:tool_loop=transfer_to_poet {}]]"
    specs = {**HANDOFF, "default": {**HANDOFF["default"], "limits": {"rounds": 4}}}
    async with opening(specs) as agent:
        turn = await agent.run(some_user(), f"{around} {says('Enough.')}")

    assert turn.last.HasField("run_finished") or turn.last.HasField("run_failed")
    assert len([event for event in turn.events if event.HasField("tool_started")]) <= 4


@pytest.mark.parametrize("limit", [{"rounds": 4}, {"tokens": 1}])
async def test_bounds_hold_for_all_agents_together_and_the_supervisor_still_answers(
    opening: TeamOpening, limit: dict[str, int], tool: ToolServer
) -> None:
    task = '[[sim:tool_loop=mark {"token": "t"}]] [[sim:reply=So far.]]'
    specs = {**SUPERVISOR, "default": {**SUPERVISOR["default"], "limits": limit}}
    async with opening(specs, effect="none") as agent:
        turn = await agent.run(some_user(), f"{asks('clerk', task)} {says('Answer: {tool_result}')}")

    assert turn.last.HasField("run_finished"), turn.last
    assert turn.text.startswith("Answer: ")
    assert len(tool.calls) <= 2


async def test_member_whose_model_fails_is_reported_to_the_supervisor(opening: TeamOpening) -> None:
    async with opening(SUPERVISOR) as agent:
        turn = await agent.run(some_user(), f"{asks('poet', '[[sim:fault=500]]')} {says('So: {tool_result}')}")

    assert turn.text == "So: The agent poet did not answer (MODEL_FAILED)."


@pytest.mark.parametrize("arguments", ["{}", '{"task": ""}', '{"task": 5}'])
async def test_task_that_is_none_is_refused(opening: TeamOpening, arguments: str) -> None:
    async with opening(SUPERVISOR) as agent:
        turn = await agent.run(some_user(), f"[[sim:tool=ask_poet {arguments}]] {says('{tool_result}')}")

    assert turn.text.startswith("The arguments are not valid: ")


async def test_own_tool_with_the_name_of_a_turn_gives_way(opening: TeamOpening) -> None:
    specs = {"default": {"kind": "supervisor", "members": ["user"]}, "user": {**POET, "instructions": "You are user."}}
    async with opening(specs, AGENT_ASK_USER="true") as agent:
        turn = await agent.run(some_user(), f"{asks('user', '[[sim:prompt]]')} {says('{tool_result}')}")

    assert turn.text.strip() == "You are user."


async def test_task_of_a_member_is_a_span_with_all_that_the_member_does(
    opening: TeamOpening, spans: RecordedSpans
) -> None:
    async with opening(SUPERVISOR) as agent:
        await agent.run(some_user(), f"{asks('clerk', marks())} {says('Done.')}")
    agents = {(span.attributes or {})["gen_ai.agent.name"]: span for span in spans.all() if span.name == "invoke_agent"}
    parents = {
        span.name: span.parent.span_id
        for span in spans.all()
        if span.parent and span.name.startswith(("execute_tool", "invoke_agent"))
    }

    assert set(agents) == {"mesh", "clerk"}
    assert parents["execute_tool mark"] == agents["clerk"].context.span_id
    member = agents["clerk"].parent
    assert member is not None
    assert member.span_id == agents["mesh"].context.span_id


async def test_no_run_of_a_team_starts_while_a_member_is_disabled(opening: TeamOpening) -> None:
    user_id, admin = some_user(), replace(personal(some_user()), scopes=frozenset({ADMIN}))

    async def switch(agent: AgentUnderTest, *, is_disabled: bool) -> None:
        request = pb.SetAssistantDisabledRequest(name="clerk", is_disabled=is_disabled)
        await agent.calls.unary(agent.stub.SetAssistantDisabled, request, timeout_s=5, subject=admin)

    async with opening(SUPERVISOR) as agent:
        await switch(agent, is_disabled=True)
        with pytest.raises(PreconditionFailed) as refused:
            await agent.run(user_id, "Hello")
        await switch(agent, is_disabled=False)
        turn = await agent.run(user_id, "Hello")

    assert refused.value.reason == "ASSISTANT_DISABLED"
    assert turn.last.HasField("run_finished")


async def test_member_that_is_disabled_meanwhile_gets_no_task(opening: TeamOpening, tool: ToolServer) -> None:
    """The run asks a person about its first task; the kill switch is pulled before it is resumed."""
    user_id, admin = some_user(), replace(personal(some_user()), scopes=frozenset({ADMIN}))
    message = f"{asks('clerk', marks())} {asks('poet', says('Roses.'))} {says('So: {tool_result}')}"
    async with opening(SUPERVISOR, approval="always") as agent:
        turn = await agent.run(user_id, message)
        [question] = asked(turn)
        request = pb.SetAssistantDisabledRequest(name="poet", is_disabled=True)
        await agent.calls.unary(agent.stub.SetAssistantDisabled, request, timeout_s=5, subject=admin)
        resumed = await resume(agent, user_id, resume_request(turn.run_id, decision(question.call_id)))
        request = pb.SetAssistantDisabledRequest(name="poet", is_disabled=False)
        await agent.calls.unary(agent.stub.SetAssistantDisabled, request, timeout_s=5, subject=admin)

    assert len(tool.calls) == 1
    assert "The agent poet is disabled." in resumed.text
