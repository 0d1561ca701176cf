"""Memories are recalled while their run is being stored. A recall is dropped without a run, or if it takes too long."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from fakes.agent.held_memories import HeldMemories
from fakes.agent.neighbours import AWAY, FakeEntitlements, FakeReceivers
from mesh.agent.v1 import agent_pb2
from mesh_agent.domain.entitlements import Entitlements
from mesh_agent.domain.threads import RecalledMemory
from mesh_agent.store import threads
from mesh_common.database.postgres import Database
from mesh_common.errors import Conflict, InvalidInput, NotFound, QuotaExceeded
from mesh_common.ids import ThreadId, new_id
from prometheus_client import REGISTRY
from support.agent import AgentUnderTest, agent_settings, running_agent, some_user
from support.mesh import TestMesh
from support.subjects import personal

LIKES_TEA, LIKES_COFFEE = (RecalledMemory("1", f"Likes {drink}", 0.9) for drink in ("tea", "coffee"))
STUCK = "[[sim:itl=20000]]"


@pytest.fixture
def memories() -> HeldMemories:
    return HeldMemories(recalled=[LIKES_TEA])


@pytest.fixture
def auth() -> FakeEntitlements:
    return FakeEntitlements()


@pytest.fixture
async def recalling(
    own_mesh: TestMesh, model_url: str, memories: HeldMemories, auth: FakeEntitlements
) -> AsyncIterator[AgentUnderTest]:
    settings = agent_settings(own_mesh, model_url, AGENT_DRAIN_S="0.1")
    async with running_agent(own_mesh, settings, memories=memories, entitlements=auth) as agent:
        yield agent


def recalled_texts(events: list[agent_pb2.RunEvent]) -> list[str]:
    [recalled] = [event.memory_recalled for event in events if event.HasField("memory_recalled")]
    return [memory.text for memory in recalled.memories]


def recalls(result: str) -> float:
    return REGISTRY.get_sample_value("mesh_agent_recalls_total", {"result": result}) or 0.0


async def test_memories_are_asked_for_once_while_the_run_is_being_stored(
    recalling: AgentUnderTest, memories: HeldMemories, own_database: Database
) -> None:
    user_id = some_user()
    thread_id = (await recalling.create_thread(user_id)).id
    memories.let_go.set()
    async with own_database.as_subject(personal(user_id)) as connection:
        assert await threads.lock_thread(connection, user_id, ThreadId(UUID(thread_id)))
        start = asyncio.ensure_future(recalling.run(user_id, "What do I like?", thread_id=thread_id))

        asked = await memories.asked.get()

    turn = await start
    assert asked == (user_id, "What do I like?")
    assert turn.kinds == ["run_started", "memory_recalled", "message_delta", "message_completed", "run_finished"]
    assert recalled_texts([*turn.events]) == ["Likes tea"]
    assert memories.asked.empty()


async def test_recall_of_a_refused_start_is_dropped_and_nothing_is_left_to_drain(
    recalling: AgentUnderTest, memories: HeldMemories
) -> None:
    with pytest.raises(NotFound):
        await recalling.run(some_user(), "Anybody?", thread_id=str(new_id()))

    assert await memories.cancelled.get() == "Anybody?"
    async with asyncio.timeout(2):
        await recalling.drain()


async def test_recall_of_a_start_refused_by_a_busy_thread_is_dropped(
    recalling: AgentUnderTest, memories: HeldMemories
) -> None:
    user_id = some_user()
    async with recalling.starting(user_id, STUCK) as started:
        with pytest.raises(Conflict):
            await recalling.run(user_id, "And?", thread_id=started.thread_id, multitask=agent_pb2.MULTITASK_REJECT)

        assert await memories.cancelled.get() == "And?"
        await recalling.cancel(user_id, started.run_id)


async def test_repeated_start_drops_its_recall_and_tells_that_of_the_first(
    recalling: AgentUnderTest, memories: HeldMemories
) -> None:
    user_id = some_user()
    async with recalling.starting(user_id, "Hello", idempotency_key="key") as first:
        again = asyncio.ensure_future(recalling.run(user_id, "Hello", idempotency_key="key"))
        dropped = await memories.cancelled.get()

        memories.let_go.set()
        events = await first.rest()

    assert dropped == "Hello"
    assert list((await again).events) == events
    assert recalled_texts(events) == ["Likes tea"]


async def test_nothing_is_asked_for_a_start_that_is_to_be_refused(
    recalling: AgentUnderTest, memories: HeldMemories, auth: FakeEntitlements
) -> None:
    spent = some_user()
    auth.by_user[spent] = Entitlements(monthly_tokens=100, used_tokens=100)

    with pytest.raises(QuotaExceeded):
        await recalling.run(spent, "Hello")
    with pytest.raises(InvalidInput):
        await recalling.run(some_user(), "word, " * 5_200)

    assert memories.asked.empty()


async def test_run_that_waits_for_its_thread_recalls_afresh_when_it_is_claimed(
    recalling: AgentUnderTest, memories: HeldMemories
) -> None:
    user_id = some_user()
    memories.let_go.set()
    async with recalling.starting(user_id, STUCK) as first:
        await first.until("message_delta")
        async with recalling.starting(user_id, "What do I like?", thread_id=first.thread_id) as second:
            memories.recalled = [LIKES_COFFEE]

            await recalling.cancel(user_id, first.run_id)
            events = await second.rest()

    assert recalled_texts(events) == ["Likes coffee"]


async def test_cancelled_run_cancels_its_recall(recalling: AgentUnderTest, memories: HeldMemories) -> None:
    user_id = some_user()
    async with recalling.starting(user_id, "Hello") as started:
        await started.until("run_started")

        await recalling.cancel(user_id, started.run_id)

        rest = await started.rest()
    assert memories.cancelled.get_nowait() == "Hello"
    assert [event.WhichOneof("event") for event in rest] == ["run_cancelled"]


async def test_run_given_back_drops_its_recall_and_the_next_attempt_asks_anew(
    recalling: AgentUnderTest, memories: HeldMemories, own_mesh: TestMesh, model_url: str
) -> None:
    user_id = some_user()
    async with recalling.starting(user_id, "Hello") as started:
        await started.until("run_started")
        await recalling.drain()

    other = FakeReceivers(recalled=[LIKES_COFFEE])
    async with running_agent(own_mesh, agent_settings(own_mesh, model_url), memories=other) as successor:
        events = await successor.follow(user_id, started.run_id)

    assert memories.cancelled.get_nowait() == "Hello"
    assert events[0].WhichOneof("event") == "run_restarted"
    assert recalled_texts(events) == ["Likes coffee"]


async def test_memory_away_is_told_counted_and_logged_once(
    recalling: AgentUnderTest, memories: HeldMemories, capsys: pytest.CaptureFixture[str]
) -> None:
    memories.away = AWAY
    memories.let_go.set()
    before = recalls("unavailable"), recalls("ok")

    turn = await recalling.run(some_user(), "Hello [[sim:reply=Fine.]]")

    [recalled] = [event.memory_recalled for event in turn.events if event.HasField("memory_recalled")]
    [line] = [line for line in capsys.readouterr().out.splitlines() if "run.not_recalled" in line]
    assert recalled.is_unavailable
    assert turn.text == "Fine."
    assert (recalls("unavailable"), recalls("ok")) == (before[0] + 1, before[1])
    assert f"run_id={turn.run_id}" in line


async def test_memory_that_says_nothing_is_waited_for_no_longer_than_the_budget(
    own_mesh: TestMesh, model_url: str
) -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as silent:
        target = f"ipv4:127.0.0.1:{silent.sockets[0].getsockname()[1]}"
        settings = agent_settings(own_mesh, model_url, AGENT_MEMORY_TARGET=target)
        before = recalls("unavailable")
        async with running_agent(own_mesh, settings, entitlements=FakeEntitlements()) as agent, asyncio.timeout(5):
            turn = await agent.run(some_user(), "Hello [[sim:reply=Fine.]]")

    assert turn.text == "Fine."
    assert recalls("unavailable") == before + 1
