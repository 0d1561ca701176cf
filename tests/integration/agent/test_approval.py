"""Calls that need approval: the run ends interrupted, and another run executes what a person decided."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from fakes.agent.neighbours import FakeEntitlements, FakeReceivers
from mesh.agent.v1 import agent_pb2 as pb
from mesh_agent.domain.entitlements import Entitlements
from mesh_common.database.postgres import Database
from simulator.client import SimulatorAdmin
from support.agent import eventually, some_user
from support.approval import (
    ANSWER,
    EDIT,
    MARK,
    REJECT,
    asked,
    decision,
    guarding_agent,
    interrupts,
    resume,
    resume_request,
    stored,
)
from support.mesh import TestMesh
from support.model_provider import line, open_provider
from support.replicas import replica
from support.subjects import personal
from support.tool_server import ToolServer, running_tool_server


@pytest.fixture
async def tool() -> AsyncIterator[ToolServer]:
    async with running_tool_server() as server:
        yield server


async def test_approved_call_is_made_by_the_run_that_resumes(
    own_mesh: TestMesh, model_url: str, tool: ToolServer, own_database: Database
) -> None:
    user_id = some_user()
    async with guarding_agent(own_mesh, model_url, tool) as agent:
        turn = await agent.run(user_id, MARK)
        waiting = await agent.get_run(user_id, turn.run_id)
        calls_before = list(tool.calls)
        [question] = asked(turn)
        resumed = await resume(agent, user_id, resume_request(turn.run_id, decision(question.call_id)))
        run = await agent.get_run(user_id, resumed.run_id)
        decided = (await agent.get_run(user_id, turn.run_id)).interrupts[0].decision
        said = await agent.messages(user_id, turn.thread_id)

    assert turn.kinds == ["run_started", "memory_recalled", "run_interrupted"]
    assert waiting.status == pb.RUN_STATUS_INTERRUPTED
    assert (question.tool, question.arguments_json) == ("mark", '{"token":"t-1"}')
    assert calls_before == []
    assert [call.key for call in tool.calls] == [f"{resumed.run_id}:1:0"]
    assert resumed.text == "It says marked."
    assert (run.status, run.resumes_run_id) == (pb.RUN_STATUS_SUCCEEDED, turn.run_id)
    assert decided.decided_by == str(user_id)
    assert [message.content for message in said] == [MARK, "It says marked."]
    assert await stored(own_database, turn.run_id) == 0


async def two_calls(simulator: SimulatorAdmin, *, in_rounds: bool = False) -> None:
    calls = [{"name": "mark", "arguments": {"token": token}} for token in ("a", "b")]
    calls.append({"name": "calculate", "arguments": {"expression": "6*7"}})
    rule = {"action": {"tool_calls": calls, "in_rounds": in_rounds, "reply": "{tool_result}"}}
    await simulator.put_rules([rule])


async def test_other_calls_of_the_answer_run_and_each_call_has_its_own_decision(
    own_mesh: TestMesh, model_url: str, tool: ToolServer, simulator: SimulatorAdmin
) -> None:
    user_id = some_user()
    await two_calls(simulator)
    async with guarding_agent(own_mesh, model_url, tool) as agent:
        turn = await agent.run(user_id, "Mark both.")
        first, second = asked(turn)
        decisions = (
            decision(second.call_id, EDIT, value={"token": "c"}),
            decision(first.call_id, REJECT, message="Not that one."),
        )
        resumed = await resume(agent, user_id, resume_request(turn.run_id, *decisions))
        kept = (await agent.get_run(user_id, turn.run_id)).interrupts

    finished = [event.tool_finished for event in turn.events if event.HasField("tool_finished")]
    assert [(one.tool, one.content) for one in finished] == [("calculate", "42")]
    assert [call.arguments for call in tool.calls] == [{"token": "c"}]
    results = {one.call_id: one for one in (event.tool_finished for event in resumed.events) if one.call_id}
    assert results[first.call_id].is_error
    assert "Not that one." in results[first.call_id].content
    assert (results[second.call_id].content, results[second.call_id].arguments_json) == ("marked", '{"token":"c"}')
    assert "Not that one." in resumed.text
    assert 'changed the arguments of this call to {"token":"c"}' in resumed.text
    assert "42" in resumed.text
    assert [(one.decision.kind, one.decision.value_json) for one in kept] == [(REJECT, ""), (EDIT, '{"token":"c"}')]


async def test_each_round_may_ask_again(
    own_mesh: TestMesh, model_url: str, tool: ToolServer, simulator: SimulatorAdmin, own_database: Database
) -> None:
    user_id = some_user()
    await two_calls(simulator, in_rounds=True)
    async with guarding_agent(own_mesh, model_url, tool) as agent:
        turn = await agent.run(user_id, "Mark both.")
        runs = [turn]
        for _ in range(2):
            [question] = asked(runs[-1])
            runs.append(await resume(agent, user_id, resume_request(runs[-1].run_id, decision(question.call_id))))

    assert runs[-1].last.HasField("run_finished")
    assert [call.key for call in tool.calls] == [f"{runs[1].run_id}:1:0", f"{runs[2].run_id}:2:0"]
    assert await stored(own_database, turn.run_id) == 0


async def test_each_run_of_an_execution_is_billed_for_its_own_rounds(
    own_mesh: TestMesh, model_url: str, tool: ToolServer, simulator: SimulatorAdmin
) -> None:
    user_id = some_user()
    receivers = FakeReceivers()
    async with guarding_agent(own_mesh, model_url, tool, fakes={"usage": receivers}) as agent:
        turn = await agent.run(user_id, MARK)
        [question] = asked(turn)
        resumed = await resume(agent, user_id, resume_request(turn.run_id, decision(question.call_id)))
        booked = {str(one.run_id): one.usage for one in [await receivers.usage.get(), await receivers.usage.get()]}
    sent = await simulator.requests()

    assert [one["tokens"] for one in sent] == [
        turn.last.run_interrupted.usage.output_tokens,
        resumed.last.run_finished.usage.output_tokens,
    ]
    assert {id_: usage.output_tokens for id_, usage in booked.items()} == {
        turn.run_id: sent[0]["tokens"],
        resumed.run_id: sent[1]["tokens"],
    }


async def test_any_replica_resumes_after_a_restart(own_mesh: TestMesh, model_url: str, tool: ToolServer) -> None:
    """The replica that accepts the resume has no capacity, so that another one claims the run."""
    user_id = some_user()
    async with guarding_agent(own_mesh, model_url, tool) as first:
        turn = await first.run(user_id, MARK)
    [question] = asked(turn)
    async with (
        guarding_agent(own_mesh, model_url, tool, AGENT_MAX_RUNS="1") as busy,
        busy.starting(some_user(), "[[sim:itl=20000]]") as stuck,
    ):
        await stuck.until("message_delta")
        request = resume_request(turn.run_id, decision(question.call_id), is_acknowledged_by_message=True)
        async with busy.calls.stream(busy.stub.StartRun, request, timeout_s=20, subject=personal(user_id)) as stream:
            metadata = await stream.initial_metadata()
            pending = await busy.get_run(user_id, metadata["mesh-run-id"])
            async with guarding_agent(own_mesh, model_url, tool) as other:
                run = await eventually(
                    lambda: other.get_run(user_id, metadata["mesh-run-id"]), lambda found: found.HasField("ended_at")
                )

    assert pending.status == pb.RUN_STATUS_PENDING
    assert (run.status, run.message.content) == (pb.RUN_STATUS_SUCCEEDED, "It says marked.")
    assert len(tool.calls) == 1


async def test_tool_that_was_revoked_meanwhile_is_not_called(
    own_mesh: TestMesh, model_url: str, tool: ToolServer
) -> None:
    user_id = some_user()
    async with guarding_agent(own_mesh, model_url, tool) as agent:
        turn = await agent.run(user_id, MARK)
        [question] = asked(turn)
    entitlements = FakeEntitlements({user_id: Entitlements(tools=("calculate",))})
    async with guarding_agent(own_mesh, model_url, tool, fakes={"entitlements": entitlements}) as agent:
        resumed = await resume(agent, user_id, resume_request(turn.run_id, decision(question.call_id)))

    assert tool.calls == []
    assert resumed.text == "It says There is no tool 'mark'.."


async def test_broken_calls_ask_nobody(
    own_mesh: TestMesh, model_url: str, tool: ToolServer, simulator: SimulatorAdmin
) -> None:
    calls = [{"name": "mark", "arguments": {"token": 5}}, {"name": "mark", "arguments": '{"token": "a'}]
    await simulator.put_rules([{"action": {"tool_calls": calls, "reply": "ok"}}])
    async with guarding_agent(own_mesh, model_url, tool) as agent:
        turn = await agent.run(some_user(), "Mark.")

    assert turn.last.HasField("run_finished")
    assert tool.calls == []


async def test_question_of_the_model_is_answered(
    own_mesh: TestMesh, model_url: str, tool: ToolServer, simulator: SimulatorAdmin
) -> None:
    user_id = some_user()
    arguments = {"question": "Which one?", "answer_schema": {"enum": ["red", "blue"]}}
    call = {"name": "ask_user", "arguments": arguments}
    await simulator.put_rules([{"action": {"tool_calls": [call], "reply": "You said {tool_result}."}}])
    async with guarding_agent(own_mesh, model_url, tool, AGENT_ASK_USER="true") as agent:
        turn = await agent.run(user_id, "Buy a car.")
        [question] = asked(turn)
        [listed] = (await interrupts(agent, user_id)).interrupts
        resumed = await resume(
            agent, user_id, resume_request(turn.run_id, decision(question.call_id, ANSWER, value="red"))
        )

    assert listed == question
    assert (question.kind, question.question) == (pb.INTERRUPT_KIND_QUESTION, "Which one?")
    assert question.answer_schema_json == '{"enum":["red","blue"]}'
    assert list(question.allowed) == [ANSWER, REJECT]
    assert resumed.text == "You said red."


async def test_models_cannot_ask_unless_a_setting_says_so(
    own_mesh: TestMesh, model_url: str, simulator: SimulatorAdmin
) -> None:
    async with replica(own_mesh, model_url) as agent:
        await agent.run(some_user(), "Hello")
    [sent] = await simulator.requests()

    assert "ask_user" not in [tool["function"]["name"] for tool in sent["body"]["tools"]]


@pytest.mark.parametrize("schema", [{"type": "whatever"}, {"$ref": "http://127.0.0.1/x"}, {"enum": ["x" * 20_000]}])
async def test_question_with_a_bad_schema_is_not_asked(
    own_mesh: TestMesh, model_url: str, tool: ToolServer, simulator: SimulatorAdmin, schema: dict[str, object]
) -> None:
    call = {"name": "ask_user", "arguments": {"question": "Which?", "answer_schema": schema}}
    await simulator.put_rules([{"action": {"tool_calls": [call], "reply": "{tool_result}"}}])
    async with guarding_agent(own_mesh, model_url, tool, AGENT_ASK_USER="true") as agent:
        turn = await agent.run(some_user(), "Ask.")

    assert turn.last.HasField("run_finished")
    assert turn.text.startswith("The answer_schema is")


async def _talk_and_call(request: web.Request) -> web.StreamResponse:
    function = {"name": "mark", "arguments": '{"token":"t"}'}
    call = {"index": 0, "id": "c1", "type": "function", "function": function}
    asking = [line({"content": "Let me mark it."}), line({"tool_calls": [call]}), line({}, "tool_calls")]
    after = [line({"content": "Done."}), line({}, "stop")]
    is_after = (await request.json())["messages"][-1]["role"] == "tool"
    body = b"".join([*(after if is_after else asking), b"data: [DONE]\n\n"])
    return web.Response(body=body, headers={"Content-Type": "text/event-stream"})


async def test_text_before_the_question_is_a_message_of_its_own(own_mesh: TestMesh, tool: ToolServer) -> None:
    user_id = some_user()
    async with (
        open_provider(_talk_and_call) as provider,
        guarding_agent(own_mesh, provider.base_url.rstrip("/"), tool) as agent,
    ):
        turn = await agent.run(user_id, "Mark it.")
        [question] = asked(turn)
        resumed = await resume(agent, user_id, resume_request(turn.run_id, decision(question.call_id)))
        said = await agent.messages(user_id, turn.thread_id)

    assert turn.kinds == ["run_started", "memory_recalled", "message_delta", "message_completed", "run_interrupted"]
    assert resumed.text == "Done."
    assert [(one.content, one.is_partial) for one in said] == [
        ("Mark it.", False),
        ("Let me mark it.", False),
        ("Done.", False),
    ]
    assert [one.run_id for one in said] == [turn.run_id, turn.run_id, resumed.run_id]
