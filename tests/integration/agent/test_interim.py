"""What a run says before its answer is a message of its own: in the stream, in the thread, and for the next model."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from mesh.agent.v1 import agent_pb2 as pb
from mesh_common.database.postgres import Database
from sqlalchemy import text
from support.agent import Followed, agent_settings, running_agent, some_user
from support.approval import REJECT, asked, decision, resume, resume_request
from support.mesh import TestMesh
from support.odd_provider import PLAIN, OddProvider, odd_provider
from support.tool_server import ToolServer

LOOK = "Let me look."
_CALL = {"index": 0, "id": "c1", "type": "function", "function": {"name": "mark", "arguments": '{"token": "t"}'}}
_CHOICES: list[dict[str, Any]] = [
    {"index": 0, "delta": {"content": LOOK}},
    {"index": 0, "delta": {"tool_calls": [_CALL]}, "finish_reason": "tool_calls"},
]


@pytest.fixture
async def provider() -> AsyncIterator[OddProvider]:
    """Says something, calls a tool, and then answers."""
    pieces = [{"text": f"data: {json.dumps({'choices': [choice]})}\n\n"} for choice in _CHOICES]
    async with odd_provider([*pieces, {"text": "data: [DONE]\n\n"}]) as running:
        yield running


def _messages(turn: Followed) -> list[tuple[str, str]]:
    """The id and text of each message, from its deltas."""
    texts: dict[str, str] = {}
    for event in turn.events:
        if event.HasField("message_delta"):
            delta = event.message_delta
            texts[delta.message_id] = texts.get(delta.message_id, "") + delta.text
    return list(texts.items())


async def test_text_before_a_call_and_the_answer_are_two_messages(
    own_mesh: TestMesh, provider: OddProvider, tool: ToolServer
) -> None:
    user_id = some_user()
    settings = agent_settings(own_mesh, provider.url, AGENT_HTTP_TOOLS=tool.as_setting("none"))
    async with running_agent(own_mesh, settings) as agent:
        turn = await agent.run(user_id, "What?")
        run = await agent.get_run(user_id, turn.run_id)
        messages = await agent.messages(user_id, turn.thread_id)
        await agent.run(user_id, "And now?", thread_id=turn.thread_id)
    completed = [event.message_completed for event in turn.events if event.HasField("message_completed")]

    assert [said for _, said in _messages(turn)] == [LOOK, PLAIN]
    assert [(one.message_id, one.content) for one in completed] == _messages(turn)
    assert [(one.role, one.content) for one in messages] == [
        (pb.MESSAGE_ROLE_USER, "What?"),
        (pb.MESSAGE_ROLE_INTERIM, LOOK),
        (pb.MESSAGE_ROLE_ASSISTANT, PLAIN),
    ]
    assert [one.id for one in messages[1:]] == [message_id for message_id, _ in _messages(turn)]
    assert run.message.content == PLAIN
    # The next model reads both, in their order; to servers that nobody knows they are one message.
    history = [one["content"] for one in provider.requests[2]["messages"] if one["role"] == "assistant"]
    assert history == [f"{LOOK}\n\n{PLAIN}"]


async def test_note_about_an_interrupted_run_stands_after_its_messages(
    own_mesh: TestMesh, provider: OddProvider, tool: ToolServer, own_database: Database
) -> None:
    user_id = some_user()
    guarded = tool.as_setting("once", approval="always")
    async with running_agent(own_mesh, agent_settings(own_mesh, provider.url, AGENT_HTTP_TOOLS=guarded)) as agent:
        turn = await agent.run(user_id, "What?")
        await agent.run(user_id, "Never mind.", thread_id=turn.thread_id)
        messages = await agent.messages(user_id, turn.thread_id)
        other = await agent.run(user_id, "What?")
        [question] = asked(other)
        resumed = await resume(agent, user_id, resume_request(other.run_id, decision(question.call_id, REJECT)))
    async with own_database.as_worker() as connection:
        query = text("SELECT count(*) FROM agent.messages WHERE run_id = :run_id AND role = 'note'")
        notes = (await connection.execute(query, {"run_id": turn.run_id})).scalar_one()

    roles = [one.role for one in messages if one.run_id == turn.run_id]
    assert roles == [pb.MESSAGE_ROLE_USER, pb.MESSAGE_ROLE_ASSISTANT, pb.MESSAGE_ROLE_NOTE]
    assert notes == 1
    assert resumed.text == PLAIN


async def test_every_message_has_a_place_of_its_own(
    own_mesh: TestMesh, provider: OddProvider, tool: ToolServer, own_database: Database
) -> None:
    """2 is where the release before writes notes."""
    user_id = some_user()
    settings = agent_settings(own_mesh, provider.url, AGENT_HTTP_TOOLS=tool.as_setting("none"))
    async with running_agent(own_mesh, settings) as agent:
        turn = await agent.run(user_id, "What?")
    async with own_database.as_worker() as connection:
        query = text("SELECT part, role FROM agent.messages WHERE run_id = :run_id ORDER BY part")
        rows = (await connection.execute(query, {"run_id": turn.run_id})).all()

    assert [tuple(row) for row in rows] == [(0, "user"), (1, "interim"), (3, "assistant")]
