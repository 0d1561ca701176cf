"""Runs on a shared stream from their agent behave as on a stream of their own, whatever happens to the stream."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from fakes.gateway.fake_runs import FakeRun, answer_begin, answer_whole, failing_with
from mesh.agent.v1 import agent_pb2
from mesh_common.ids import new_id
from mesh_dev.valkey import EmbeddedValkey
from mesh_gateway.clients.started_runs import MAX_UNREAD
from support.gateway import Client, FakeMesh, Frame, frames_of, read_frames, running_gateway

CHAT = "/api/v1/chatbot/chat"
STREAM = "/api/v1/chatbot/chat/stream"


@pytest.fixture
async def sharing(mesh: FakeMesh, valkey: EmbeddedValkey) -> AsyncIterator[Client]:
    """A separate gateway with a shared stream from the agent."""
    mesh.agent.address = f"127.0.0.1:{mesh.ports['agent']}"
    async with running_gateway(mesh, valkey.url) as client:
        await _invite(client)
        yield client


async def _invite(client: Client) -> None:
    """Starts runs until the gateway opens a shared stream, which a run without one triggers once a second at most."""
    agent = client.mesh.agent
    async with asyncio.timeout(10):
        while not agent.shared_opened.is_set():
            response = await client.http.post(CHAT, json={"message": "Hi"}, headers=client.as_user())
            assert response.status_code == 200
    agent.shared_opened.clear()
    agent.started.clear()
    agent.follows.clear()


@asynccontextmanager
async def _streaming(client: Client) -> AsyncIterator[AsyncIterator[Frame]]:
    headers = client.as_user()
    async with client.http.stream("POST", STREAM, json={"message": "Hi"}, headers=headers) as response:
        yield read_frames(response)


async def test_whole_run_comes_by_the_shared_stream(sharing: Client) -> None:
    response = await sharing.http.post(STREAM, json={"message": "Hi"}, headers=sharing.as_user())

    assert [frame.data["seq"] for frame in frames_of(response.text)] == list(range(1, 8))
    assert sharing.mesh.agent.follows == []


async def test_answer_as_json_comes_by_the_shared_stream(sharing: Client) -> None:
    response = await sharing.http.post(CHAT, json={"message": "Hi"}, headers=sharing.as_user())

    assert response.json()["message"]["content"] == "Paris."
    assert sharing.mesh.agent.follows == []


async def test_many_runs_at_once_are_kept_apart(sharing: Client) -> None:
    responses = await asyncio.gather(
        *(sharing.http.post(STREAM, json={"message": "Hi"}, headers=sharing.as_user()) for _ in range(40))
    )

    for response in responses:
        frames = frames_of(response.text)
        (run_id,) = {frame.id.split(":")[0] for frame in frames}
        assert response.headers["Location"] == f"/api/v1/runs/{run_id}"
        assert [frame.data["seq"] for frame in frames] == list(range(1, 8))
    assert sharing.mesh.agent.follows == []


async def test_run_that_ends_at_once_is_acknowledged_and_delivered(sharing: Client) -> None:
    """grpc.aio may lose the metadata of a call that ends at once without a message."""
    sharing.mesh.agent.plan = failing_with(agent_pb2.RunError(reason="NO_MODEL", detail="None answers."))

    for _ in range(100):
        response = await sharing.http.post(STREAM, json={"message": "Hi"}, headers=sharing.as_user())

        assert response.status_code == 200, response.text
        assert [frame.event for frame in frames_of(response.text)] == ["run_started", "run_failed"]


async def test_run_is_followed_again_from_its_last_event_when_the_stream_is_cut(sharing: Client) -> None:
    agent = sharing.mesh.agent
    agent.plan = _two_halves(agent.release)

    async with _streaming(sharing) as frames:
        first = [await anext(frames) for _ in range(3)]
        agent.end_shared()
        agent.release.set()
        rest = [frame async for frame in frames]

    assert [frame.data["seq"] for frame in [*first, *rest]] == list(range(1, 8))
    assert [(one.after_attempt, one.after_seq) for one in agent.follows] == [(1, 3)]


async def test_run_is_followed_again_when_its_agent_carries_it_no_longer(sharing: Client) -> None:
    agent = sharing.mesh.agent
    agent.plan = _two_halves(agent.release)

    async with _streaming(sharing) as frames, _streaming(sharing) as others:
        first = [await anext(frames) for _ in range(3)]
        agent.leave_shared(agent.runs[agent.started[0].run_id])
        agent.release.set()
        rest = [frame async for frame in frames]
        of_the_other = [frame async for frame in others]

    assert [frame.data["seq"] for frame in [*first, *rest]] == list(range(1, 8))
    assert [frame.data["seq"] for frame in of_the_other] == list(range(1, 8))
    assert [one.run_id for one in agent.follows] == [agent.started[0].run_id]


async def test_next_run_is_followed_on_its_own_and_brings_a_new_stream_after_a_cut(sharing: Client) -> None:
    sharing.mesh.agent.end_shared()

    await _invite(sharing)
    response = await sharing.http.post(STREAM, json={"message": "Hi"}, headers=sharing.as_user())

    assert [frame.data["seq"] for frame in frames_of(response.text)] == list(range(1, 8))


async def test_client_that_does_not_read_leaves_the_stream_and_gets_all_later(sharing: Client) -> None:
    """A slow client must neither slow down others nor fill the gateway's memory."""
    agent = sharing.mesh.agent
    text = "x" * 10_000
    deltas = MAX_UNREAD * 3

    async def flood(run: FakeRun) -> None:
        await answer_begin(run)
        for _ in range(deltas):
            await run.write(message_delta=agent_pb2.MessageDelta(message_id=run.id, text=text))
        await run.write(run_finished=agent_pb2.RunFinished(finish_reason="stop"))

    agent.plan = flood
    async with _streaming(sharing) as slow:
        first = await anext(slow)
        agent.plan = answer_whole
        quick = await sharing.http.post(STREAM, json={"message": "Hi"}, headers=sharing.as_user())
        rest = [frame async for frame in slow]

    assert len(frames_of(quick.text)) == 7
    assert [frame.data["seq"] for frame in [first, *rest]] == list(range(1, deltas + 5))
    assert [one.run_id for one in agent.follows] == [agent.started[0].run_id]


async def test_same_key_again_is_followed_on_its_own(sharing: Client) -> None:
    headers = {**sharing.as_user(new_id()), "Idempotency-Key": "once"}

    first = await sharing.http.post(STREAM, json={"message": "Hi"}, headers=headers)
    again = await sharing.http.post(STREAM, json={"message": "Hi"}, headers=headers)

    assert frames_of(again.text) == frames_of(first.text)


async def test_run_left_at_once_names_no_follower(sharing: Client) -> None:
    user = sharing.as_user()
    thread = await sharing.http.post("/api/v1/threads", json={}, headers=user)

    await sharing.http.post(f"/api/v1/threads/{thread.json()['id']}/runs", json={"message": "Hi"}, headers=user)

    (started,) = sharing.mesh.agent.started
    assert not started.HasField("follower_id")


async def test_agent_that_invites_to_where_nobody_listens_is_served_all_the_same(
    mesh: FakeMesh, valkey: EmbeddedValkey
) -> None:
    mesh.agent.address = "127.0.0.1:1"
    async with running_gateway(mesh, valkey.url) as client:
        for _ in range(3):
            response = await client.http.post(STREAM, json={"message": "Hi"}, headers=client.as_user())

            assert len(frames_of(response.text)) == 7


def _two_halves(release: asyncio.Event) -> Callable[[FakeRun], Awaitable[None]]:
    async def plan(run: FakeRun) -> None:
        await answer_begin(run)
        await release.wait()
        await run.write(message_delta=agent_pb2.MessageDelta(message_id=run.id, text="ris"))
        await run.write(message_delta=agent_pb2.MessageDelta(message_id=run.id, text="."))
        completed = agent_pb2.MessageCompleted(message_id=run.id, content="Paris.", model="sim")
        await run.write(message_completed=completed)
        await run.write(run_finished=agent_pb2.RunFinished(finish_reason="stop"))

    return plan
