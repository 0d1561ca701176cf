"""Forks: a thread that begins with the messages of another one."""

import asyncio

import pytest
from fakes.agent.neighbours import FakeReceivers
from mesh.agent.v1 import agent_pb2 as pb
from mesh_agent.usecases import fork_thread
from mesh_common.database.postgres import Database
from mesh_common.errors import IdempotencyKeyReused, NotFound, PreconditionFailed, TooLarge
from mesh_common.ids import UserId, new_id
from simulator.client import SimulatorAdmin
from sqlalchemy import text
from support.agent import AgentUnderTest, agent_settings, running_agent, some_user
from support.mesh import TestMesh
from support.subjects import personal

STUCK = "[[sim:reply=one two three]] [[sim:itl=20000]]"


async def fork(agent: AgentUnderTest, user_id: UserId, thread_id: str, **fields: str) -> pb.Thread:
    request = pb.ForkThreadRequest(thread_id=thread_id, **fields)
    response = await agent.calls.unary(agent.stub.ForkThread, request, timeout_s=5, subject=personal(user_id))
    return response.thread


async def two_turns(agent: AgentUnderTest, user_id: UserId) -> str:
    thread = await agent.create_thread(user_id, "Plans")
    for word in ("first", "second"):
        await agent.run(user_id, f"[[sim:reply={word}]]", thread_id=thread.id)
    return thread.id


async def contents(agent: AgentUnderTest, user_id: UserId, thread_id: str) -> list[str]:
    return [message.content for message in await agent.messages(user_id, thread_id)]


async def test_fork_has_the_messages_up_to_one_and_goes_its_own_way(
    agent: AgentUnderTest, simulator: SimulatorAdmin
) -> None:
    user_id = some_user()
    thread_id = await two_turns(agent, user_id)
    before = await agent.messages(user_id, thread_id)

    forked = await fork(agent, user_id, thread_id, message_id=before[1].id)
    await agent.run(user_id, "[[sim:reply=other]]", thread_id=forked.id)

    after = await agent.messages(user_id, forked.id)
    [*_, sent] = await simulator.requests()
    said = [message["content"] for message in sent["body"]["messages"] if message["role"] != "system"]
    assert (forked.title, dict(forked.metadata)) == ("Plans", {"forked_from": thread_id})
    assert [one.content for one in after] == ["[[sim:reply=first]]", "first", "[[sim:reply=other]]", "other"]
    assert [one.created_at for one in after[:2]] == [one.created_at for one in before[:2]]
    assert not {one.id for one in after} & {one.id for one in before}
    assert said == ["[[sim:reply=first]]", "first", "[[sim:reply=other]]"]
    assert await agent.messages(user_id, thread_id) == before


async def test_copied_run_can_be_read_and_has_no_cost(agent: AgentUnderTest) -> None:
    user_id = some_user()
    thread_id = await two_turns(agent, user_id)

    forked = await fork(agent, user_id, thread_id)
    [_, answer, *_] = await agent.messages(user_id, forked.id)
    run = await agent.get_run(user_id, answer.run_id)

    assert (run.thread_id, run.status) == (forked.id, pb.RUN_STATUS_SUCCEEDED)
    assert (run.message.content, run.HasField("usage")) == ("first", False)


async def test_without_a_message_all_ended_runs_are_copied(agent: AgentUnderTest) -> None:
    user_id = some_user()
    thread_id = await two_turns(agent, user_id)
    async with agent.starting(user_id, STUCK, thread_id=thread_id) as running:
        await running.until("message_delta")
        [*_, unended] = await agent.messages(user_id, thread_id)

        forked = await fork(agent, user_id, thread_id)
        with pytest.raises(PreconditionFailed):
            await fork(agent, user_id, thread_id, message_id=unended.id)

        await agent.cancel(user_id, running.run_id)
    assert await contents(agent, user_id, forked.id) == [
        "[[sim:reply=first]]",
        "first",
        "[[sim:reply=second]]",
        "second",
    ]


async def test_empty_thread_is_forked_into_an_empty_one(agent: AgentUnderTest) -> None:
    user_id = some_user()
    thread = await agent.create_thread(user_id)

    forked = await fork(agent, user_id, thread.id)

    assert forked.id != thread.id
    assert await contents(agent, user_id, forked.id) == []


async def test_copied_messages_are_not_remembered_again(own_mesh: TestMesh, model_url: str) -> None:
    user_id, receivers = some_user(), FakeReceivers()
    settings = agent_settings(own_mesh, model_url, AGENT_REMEMBER_DELAY_S="0")
    async with running_agent(own_mesh, settings, memories=receivers, judge=receivers) as agent:
        turn = await agent.run(user_id, "[[sim:reply=first]]")
        async with asyncio.timeout(10):
            await receivers.remembered.get()
        forked = await fork(agent, user_id, turn.thread_id)

        await agent.run(user_id, "[[sim:reply=other]]", thread_id=forked.id)
        async with asyncio.timeout(10):
            remembered = await receivers.remembered.get()

    assert [message.content for message in remembered.messages] == ["[[sim:reply=other]]", "other"]


async def test_same_key_is_the_same_fork_also_at_the_same_time(agent: AgentUnderTest) -> None:
    user_id = some_user()
    thread_id = await two_turns(agent, user_id)
    [first, *_] = await agent.messages(user_id, thread_id)

    forks = await asyncio.gather(*(fork(agent, user_id, thread_id, idempotency_key="k") for _ in range(4)))
    await agent.delete_thread(user_id, thread_id)
    again = await fork(agent, user_id, thread_id, idempotency_key="k")

    assert {one.id for one in forks} == {again.id}
    assert len(await agent.messages(user_id, again.id)) == 4
    with pytest.raises(IdempotencyKeyReused):
        await fork(agent, user_id, thread_id, message_id=first.id, idempotency_key="k")


async def test_message_of_another_thread_is_not_found(agent: AgentUnderTest) -> None:
    user_id = some_user()
    thread_id, other = await two_turns(agent, user_id), await agent.run(user_id, "Hello")
    [foreign, *_] = await agent.messages(user_id, other.thread_id)

    for message_id in (foreign.id, str(new_id())):
        with pytest.raises(NotFound):
            await fork(agent, user_id, thread_id, message_id=message_id)


async def test_too_many_messages_are_refused(agent: AgentUnderTest, agent_database: Database) -> None:
    user_id = some_user()
    turn = await agent.run(user_id, "Hello")
    async with agent_database.as_subject(personal(user_id)) as connection:
        await connection.execute(_ADD_MESSAGES, {"run_id": turn.run_id, "number": fork_thread.MAX_MESSAGES})

    with pytest.raises(TooLarge):
        await fork(agent, user_id, turn.thread_id)


_ADD_MESSAGES = text("""
    INSERT INTO agent.messages (id, user_id, thread_id, run_id, position, part, role, content)
    SELECT gen_random_uuid(), user_id, thread_id, id, position, 2 + number, 'note', 'More'
    FROM agent.runs, generate_series(1, :number) number WHERE id = :run_id
""")
