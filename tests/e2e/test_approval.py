"""Approvals and questions through the whole mesh: a run asks, a person decides, another run continues."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mesh_dev.stack import Stack
from support.api import User, new_user
from support.stack import open_stack
from support.tool_server import ToolServer, running_tool_server

MARK = '[[sim:tool=mark {"token": "t-1"}]] [[sim:reply=It says {tool_result}.]]'
QUESTION = '{"question": "Which one?", "answer_schema": {"enum": ["red", "blue"]}}'
ASK = f"[[sim:tool=ask_user {QUESTION}]] [[sim:reply={{tool_result}}!]]"


@pytest.fixture(scope="module")
async def tool_server() -> AsyncIterator[ToolServer]:
    async with running_tool_server() as server:
        yield server


@pytest.fixture(scope="module")
async def stack(
    tmp_path_factory: pytest.TempPathFactory, mesh_template: Path, tool_server: ToolServer
) -> AsyncIterator[Stack]:
    environment = {"AGENT_HTTP_TOOLS": tool_server.as_setting("once", approval="on_effect"), "AGENT_ASK_USER": "true"}
    folder = tmp_path_factory.mktemp("approving")
    async with open_stack(folder, mesh_template, service_env={"agent": environment}) as running:
        yield running


@pytest.fixture
def tool(tool_server: ToolServer) -> ToolServer:
    tool_server.calls.clear()
    return tool_server


async def test_streamed_run_asks_and_its_resume_is_streamed(user: User, tool: ToolServer) -> None:
    turn = await user.chat(MARK)
    [asked] = turn.last.fields["interrupts"]
    [listed] = await user.items("/interrupts")
    waiting = (await user.get(f"/runs/{turn.run_id}")).json()
    edited = {"call_id": asked["call_id"], "decision": "edit", "arguments": {"token": "t-2"}}

    resumed = await user.stream(f"/runs/{turn.run_id}/resume/stream", {"decisions": [edited]})

    run = (await user.get(f"/runs/{resumed.run_id}")).json()
    [decided] = (await user.get(f"/runs/{turn.run_id}")).json()["interrupts"]
    assert turn.types[-1] == "run_interrupted"
    assert (asked["kind"], asked["tool"], asked["arguments"]) == ("approval", "mark", {"token": "t-1"})
    assert asked["allowed"] == ["approve", "edit", "reject"]
    assert (listed["id"], listed["decision"]) == (asked["id"], None)
    assert waiting["status"] == "interrupted"
    assert [call.arguments for call in tool.calls] == [{"token": "t-2"}]
    assert resumed.types[0] == "run_started"
    assert resumed.types[-1] == "run_finished"
    assert (run["status"], run["resumes_run_id"]) == ("succeeded", turn.run_id)
    assert (decided["decision"]["decision"], decided["decision"]["arguments"]) == ("edit", {"token": "t-2"})
    assert await user.items("/interrupts") == []
    assert [one["role"] for one in await user.messages(turn.thread_id)] == ["user", "assistant"]


async def test_question_in_one_call_is_answered_in_another(user: User) -> None:
    asking = (await user.post("/chatbot/chat", {"message": ASK})).json()
    [asked] = asking["interrupts"]
    body = {"decisions": [{"call_id": asked["call_id"], "decision": "answer", "answer": "green"}]}
    path = f"/runs/{asking['run_id']}/resume/wait"
    refused = await user.post(path, body)
    body["decisions"][0]["answer"] = "red"

    answered = await user.post(path, body)

    assert (asking["finish_reason"], asking["message"]["content"]) == ("interrupted", "")
    assert (asked["question"], asked["answer_schema"]) == ("Which one?", {"enum": ["red", "blue"]})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "decisions.0.answer"
    assert answered.json()["message"]["content"] == "red!"
    assert answered.json()["finish_reason"] == "stop"


async def test_resume_in_the_background_is_repeatable_and_only_once(user: User, tool: ToolServer) -> None:
    turn = await user.chat(MARK)
    [asked] = turn.last.fields["interrupts"]
    path, body = f"/runs/{turn.run_id}/resume", {"decisions": [{"call_id": asked["call_id"], "decision": "approve"}]}

    first = await user.post(path, body, idempotency_key="key")
    again = await user.post(path, body, idempotency_key="key")
    other = await user.post(path, body, idempotency_key="other")

    ended = (await user.get(f"/runs/{first.json()['run_id']}", wait_s=20)).json()
    assert (first.status_code, first.headers["location"]) == (202, f"/api/v1/runs/{first.json()['run_id']}")
    assert again.json() == first.json()
    assert (other.status_code, other.json()["reason"]) == (409, "RUN_NOT_WAITING")
    assert ended["status"] == "succeeded"
    assert len(tool.calls) == 1


@pytest.mark.parametrize(
    ("decision", "field"),
    [
        ({}, "decisions.0.call_id"),
        ({"call_id": "x", "decision": "maybe"}, "decisions.0.decision"),
        ({"call_id": "x", "decision": "approve"}, "decisions.0.call_id"),
    ],
)
async def test_bad_decision_names_its_field(user: User, decision: dict[str, str], field: str) -> None:
    turn = await user.chat(MARK)

    response = await user.post(f"/runs/{turn.run_id}/resume", {"decisions": [decision]})

    assert response.status_code == 422
    assert field in [fault["field"] for fault in response.json()["errors"]]


async def test_text_that_nothing_can_store_is_refused(user: User) -> None:
    body = b'{"decisions": [{"call_id": "x", "decision": "answer", "answer": {"a": ["\\ud800"]}}]}'
    turn = await user.chat(MARK)

    response = await user.http.post(
        f"/api/v1/runs/{turn.run_id}/resume", content=body, headers={"Content-Type": "application/json"}
    )

    assert response.status_code == 422
    assert response.json()["errors"][0]["field"].startswith("decisions.0.answer")


async def test_user_without_the_scope_sees_nothing_of_the_organisation(user: User) -> None:
    response = await user.get("/interrupts", scope="organisation")

    assert (response.status_code, response.json()["reason"]) == (403, "PERMISSION_DENIED")


async def test_new_message_rejects_what_waits(user: User, tool: ToolServer) -> None:
    turn = await user.chat(MARK)

    await user.chat("[[sim:reply=Fine.]] Never mind.", thread_id=turn.thread_id)

    roles = [(one["role"], one["run_id"]) for one in await user.messages(turn.thread_id)]
    assert roles[1] == ("note", turn.run_id)
    assert await user.items("/interrupts") == []
    assert tool.calls == []


async def test_stranger_cannot_tell_a_waiting_run_from_none(stack: Stack, user: User) -> None:
    turn = await user.chat(MARK)
    [asked] = turn.last.fields["interrupts"]
    body = {"decisions": [{"call_id": asked["call_id"], "decision": "approve"}]}

    async with new_user(stack.url) as stranger:
        for path in ("resume", "resume/stream", "resume/wait"):
            assert (await stranger.post(f"/runs/{turn.run_id}/{path}", body)).status_code == 404
        assert await stranger.items("/interrupts") == []
