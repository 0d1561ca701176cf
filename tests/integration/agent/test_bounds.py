"""What grows with its content is bounded below the size of a gRPC message: answers, pages, the history of a run."""

import json
from dataclasses import replace
from uuid import UUID

import orjson
from fakes.agent.runs import a_claim
from mesh.agent.v1 import agent_pb2
from mesh_agent.store.history import history_of
from mesh_common.database.postgres import Database
from mesh_common.ids import ThreadId, UserId
from simulator.client import SimulatorAdmin
from support.agent import AgentUnderTest, agent_settings, running_agent, some_user
from support.mesh import TestMesh
from support.odd_provider import odd_provider
from support.subjects import personal

HANGUL = "가" * 32_000
LARGE_MODEL = {"name": "large", "provider_model": "large", "context_tokens": 2_000_000}


def _piece(text: str) -> dict[str, str]:
    chunk = {"choices": [{"index": 0, "delta": {"content": text}}]}
    return {"text": f"data: {json.dumps(chunk)}\n\n"}


async def test_answer_of_more_than_a_message_is_cut_and_ends_as_length(migrated_mesh: TestMesh) -> None:
    user_id = some_user()
    # 1.2 MB, which the provider would continue.
    pieces = [_piece("a" * 60_000) for _ in range(20)]
    async with odd_provider([*pieces, {"hold": True}]) as provider:
        settings = agent_settings(migrated_mesh, provider.url, AGENT_MODELS=orjson.dumps([LARGE_MODEL]).decode())
        async with running_agent(migrated_mesh, settings) as agent:
            turn = await agent.run(user_id, "Hello")
            run = await agent.get_run(user_id, turn.run_id)
            again = await agent.follow(user_id, turn.run_id)
            pages = await _listed(agent, user_id, turn.thread_id)

    [question], [answer] = pages
    assert turn.last.run_finished.finish_reason == run.finish_reason == "length"
    assert turn.text == answer.content == run.message.content == "a" * 524_288
    assert not answer.is_partial
    assert [event.seq for event in again] == [event.seq for event in turn.events]
    assert run.usage.output_tokens > 0
    assert question.content == "Hello"


async def test_whole_answer_of_more_than_a_message_is_cut_too(migrated_mesh: TestMesh) -> None:
    message = {"role": "assistant", "content": "b" * 1_200_000}
    body = {"choices": [{"index": 0, "finish_reason": "stop", "message": message}]}
    async with odd_provider([{"text": json.dumps(body)}], "application/json") as provider:
        settings = agent_settings(
            migrated_mesh,
            provider.url,
            AGENT_MODELS=orjson.dumps([LARGE_MODEL]).decode(),
            AGENT_MAX_ANSWER_BYTES="2000",
        )
        async with running_agent(migrated_mesh, settings) as agent:
            turn = await agent.run(some_user(), "Hello")

    assert (turn.last.run_finished.finish_reason, turn.text) == ("length", "b" * 2_000)


async def _listed(agent: AgentUnderTest, user_id: UserId, thread_id: str) -> list[list[agent_pb2.Message]]:
    pages: list[list[agent_pb2.Message]] = []
    cursor: str | None = None
    while cursor or not pages:
        request = agent_pb2.ListMessagesRequest(thread_id=thread_id, limit=100, cursor=cursor)
        response = await agent.calls.unary(agent.stub.ListMessages, request, timeout_s=5, subject=personal(user_id))
        pages.append(list(response.messages))
        cursor = response.next_cursor if response.HasField("next_cursor") else None
    return pages


async def test_thread_of_long_messages_is_listed_in_pages_that_fit(
    own_mesh: TestMesh, model_url: str, own_database: Database, simulator: SimulatorAdmin
) -> None:
    user_id = some_user()
    await simulator.put_rules([{"action": {"reply": "Yes."}}])
    settings = agent_settings(own_mesh, model_url, AGENT_MODELS=orjson.dumps([LARGE_MODEL]).decode())
    async with running_agent(own_mesh, settings) as agent:
        thread_id = (await agent.run(user_id, HANGUL)).thread_id
        for _ in range(11):
            await agent.run(user_id, HANGUL, thread_id=thread_id)
        pages = await _listed(agent, user_id, thread_id)

    messages = [message for page in pages for message in page]
    assert [message.content for message in messages] == [HANGUL, "Yes."] * 12
    assert len(pages) == 3
    assert all(sum(len(message.content.encode()) for message in page) <= 524_288 for page in pages)

    claim = replace(a_claim(), subject=personal(user_id), thread_id=ThreadId(UUID(thread_id)), position=2**40)
    async with own_database.as_subject(personal(user_id)) as connection:
        history = await history_of(connection, claim)
    # Ten turns and an answer have 960 kB; with the eleventh message they would have more than 1 MiB.
    assert [said.content for said in history] == ["Yes.", HANGUL] * 10 + ["Yes."]
