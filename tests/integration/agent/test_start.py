"""Starting runs: rejected requests store nothing, and repeated ones return the same run."""

import asyncio
from typing import Any

import pytest
from mesh.agent.v1 import agent_pb2
from mesh_common.database.postgres import Database
from mesh_common.errors import Conflict, IdempotencyKeyReused, InvalidInput, NotFound
from mesh_common.ids import new_id
from simulator.client import SimulatorAdmin
from support.agent import AgentUnderTest, rows_of, some_user

SLOW = "[[sim:itl=20000]]"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"message": ""}, "message"),
        ({"message": " \n "}, "message"),
        ({"message": "x" * 32_001}, "message"),
        ({"message": "a\x00b"}, "message"),
        ({"message": "Hello", "model": "gpt-1"}, "model"),
        ({"message": "Hello", "thread_id": "1"}, "thread_id"),
        ({"message": "Hello", "run_id": "abc"}, "run_id"),
        ({"message": "Hello", "idempotency_key": "k" * 10_000}, "Idempotency-Key"),
        ({"message": "Hello", "idempotency_key": "k\n"}, "Idempotency-Key"),
        ({"message": "Hello", "multitask": 99}, "multitask"),
        ({"message": "Hello", "on_disconnect": 99}, "on_disconnect"),
        ({"message": "Hello", "metadata": {"k": "v" * 513}}, "metadata.k"),
        ({"message": "Hello", "metadata": {"k\x00": "v"}}, "metadata"),
    ],
)
async def test_faulty_input_names_its_field_and_stores_nothing(
    agent: AgentUnderTest, agent_database: Database, fields: dict[str, Any], field: str
) -> None:
    user_id = some_user()

    with pytest.raises(InvalidInput) as refused:
        await agent.run(user_id, **fields)

    assert [fault.field for fault in refused.value.fields] == [field]
    assert await rows_of(agent_database, user_id) == 0


async def test_message_longer_than_the_models_context_names_its_field_and_stores_nothing(
    agent: AgentUnderTest, agent_database: Database
) -> None:
    user_id = some_user()

    with pytest.raises(InvalidInput) as refused:
        await agent.run(user_id, "word, " * 5_200)

    assert [fault.field for fault in refused.value.fields] == ["message"]
    assert await rows_of(agent_database, user_id) == 0


async def test_long_history_is_trimmed_and_the_new_message_stays_whole(
    agent: AgentUnderTest, simulator: SimulatorAdmin
) -> None:
    user_id = some_user()
    thread_id = (await agent.run(user_id, "old, " * 2_500 + "[[sim:reply=a]]")).thread_id
    await agent.run(user_id, "recent [[sim:reply=b]]", thread_id=thread_id)
    message = "new " * 3_000

    await agent.run(user_id, message, thread_id=thread_id)

    last = (await simulator.requests())[-1]
    shown = [item["content"] for item in last["body"]["messages"]][1:]
    assert shown == ["recent [[sim:reply=b]]", "b", message]


async def test_same_idempotency_key_and_body_is_the_same_run(agent: AgentUnderTest) -> None:
    user_id = some_user()
    first = await agent.run(user_id, "Hello", idempotency_key="key")

    second = await agent.run(user_id, "Hello", idempotency_key="key")

    assert (second.run_id, second.thread_id) == (first.run_id, first.thread_id)
    assert list(second.events) == list(first.events)


async def test_same_idempotency_key_with_another_body_is_refused(
    agent: AgentUnderTest, agent_database: Database
) -> None:
    user_id = some_user()
    await agent.run(user_id, "Hello", idempotency_key="key")
    before = await rows_of(agent_database, user_id)

    with pytest.raises(IdempotencyKeyReused):
        await agent.run(user_id, "Goodbye", idempotency_key="key")

    assert await rows_of(agent_database, user_id) == before


async def test_idempotency_key_is_one_users_own(agent: AgentUnderTest) -> None:
    first = await agent.run(some_user(), "Hello", idempotency_key="shared")

    second = await agent.run(some_user(), "Hello", idempotency_key="shared")

    assert second.run_id != first.run_id


async def test_idempotency_key_used_at_the_same_time_makes_one_run(
    agent: AgentUnderTest, agent_database: Database
) -> None:
    user_id = some_user()

    turns = await asyncio.gather(*(agent.run(user_id, "Hello", idempotency_key="key") for _ in range(8)))

    assert len({turn.run_id for turn in turns}) == 1
    assert len({turn.text for turn in turns}) == 1
    assert await rows_of(agent_database, user_id) == 2


@pytest.mark.parametrize("multitask", [agent_pb2.MULTITASK_ENQUEUE, agent_pb2.MULTITASK_REJECT])
async def test_start_repeated_with_its_run_id_changes_nothing_and_follows(
    agent: AgentUnderTest, agent_database: Database, multitask: int
) -> None:
    user_id, run_id = some_user(), str(new_id())
    thread = await agent.create_thread(user_id)
    message = "[[sim:reply=a b c d]] [[sim:itl=100]]"
    async with agent.starting(user_id, message, thread_id=thread.id, run_id=run_id, multitask=multitask) as started:
        await started.until("message_delta")

        again = await agent.run(user_id, message, thread_id=thread.id, run_id=run_id, multitask=multitask)

    assert again.run_id == run_id
    assert again.text == "a b c d"
    assert await rows_of(agent_database, user_id) == 2


async def test_run_id_of_another_user_is_refused(agent: AgentUnderTest) -> None:
    turn = await agent.run(some_user(), "Hello")

    with pytest.raises(Conflict):
        await agent.run(some_user(), "Hello", run_id=turn.run_id)


async def test_runs_on_one_thread_come_one_after_the_other_in_order(
    agent: AgentUnderTest, simulator: SimulatorAdmin
) -> None:
    user_id = some_user()
    thread = await agent.create_thread(user_id)
    texts = [f"message {number} [[sim:reply=answer {number}]] [[sim:ttft=50]]" for number in range(4)]
    run_ids = []
    for text_ in texts:
        async with agent.starting(user_id, text_, thread_id=thread.id) as started:
            run_ids.append(started.run_id)

    for run_id in run_ids:
        await agent.follow(user_id, run_id)

    messages = [message.content for message in await agent.messages(user_id, thread.id)]
    sent = await simulator.requests()
    assert messages == [part for n in range(4) for part in (texts[n], f"answer {n}")]
    assert [len(request["body"]["messages"]) for request in sent] == [2, 4, 6, 8]


async def test_reject_refuses_a_busy_thread(agent: AgentUnderTest) -> None:
    user_id = some_user()
    async with agent.starting(user_id, SLOW) as started:
        await started.until("message_delta")

        with pytest.raises(Conflict) as refused:
            await agent.run(user_id, "Hello", thread_id=started.thread_id, multitask=agent_pb2.MULTITASK_REJECT)

        await agent.cancel(user_id, started.run_id)
    assert refused.value.reason == "THREAD_BUSY"


async def test_of_rejecting_starts_at_the_same_time_one_wins(agent: AgentUnderTest) -> None:
    user_id = some_user()
    thread = await agent.create_thread(user_id)
    message = "[[sim:reply=a b]] [[sim:ttft=400]]"

    async def start() -> str:
        try:
            await agent.run(user_id, message, thread_id=thread.id, multitask=agent_pb2.MULTITASK_REJECT)
        except Conflict as error:
            return error.reason
        return "done"

    outcomes = await asyncio.gather(*(start() for _ in range(6)))

    assert sorted(outcomes) == ["THREAD_BUSY"] * 5 + ["done"]


async def test_run_goes_on_when_its_starter_goes_away(agent: AgentUnderTest) -> None:
    user_id = some_user()

    async with agent.starting(user_id, "[[sim:reply=a b c]] [[sim:itl=100]]") as started:
        await started.until("message_delta")

    events = await agent.follow(user_id, started.run_id)
    assert events[-1].WhichOneof("event") == "run_finished"


async def test_thread_of_nobody_is_not_found(agent: AgentUnderTest, agent_database: Database) -> None:
    user_id = some_user()

    with pytest.raises(NotFound):
        await agent.run(user_id, "Hello", thread_id=str(new_id()))

    assert await rows_of(agent_database, user_id) == 0


async def test_thread_made_twice_with_one_key_is_one(agent: AgentUnderTest) -> None:
    user_id = some_user()
    threads = await asyncio.gather(*(agent.create_thread(user_id, "Title", key="key") for _ in range(5)))

    with pytest.raises(IdempotencyKeyReused):
        await agent.create_thread(user_id, "Other title", key="key")

    assert len({thread.id for thread in threads}) == 1
