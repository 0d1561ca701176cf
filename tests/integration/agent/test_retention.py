"""Data deleted after a day: events and idempotency keys."""

from collections.abc import AsyncIterator

import pytest
from mesh_agent.background.retention import Retention
from mesh_agent.store import retention
from mesh_common.database.postgres import Database
from mesh_common.database.sqlalchemy_engine import open_database
from mesh_common.errors import PreconditionFailed
from mesh_common.ids import new_id
from sqlalchemy import text
from support.agent import AgentUnderTest, agent_settings, running_agent, some_user
from support.mesh import TestMesh

DAY_S = 86_400.0


@pytest.fixture
async def own_agent(own_mesh: TestMesh, model_url: str) -> AsyncIterator[AgentUnderTest]:
    async with running_agent(own_mesh, agent_settings(own_mesh, model_url)) as agent:
        yield agent


@pytest.fixture
async def own_database(own_agent: AgentUnderTest) -> AsyncIterator[Database]:
    async with open_database(own_agent.settings, schema="agent") as database:
        yield database


async def a_day_passes(database: Database) -> None:
    """Makes all present rows a day older."""
    async with database.as_worker() as connection:
        for table, columns in (("runs", ("created_at", "ended_at")), ("threads", ("created_at",))):
            moved = ", ".join(f"{column} = {column} - interval '25 hours'" for column in columns)
            await connection.execute(text(f"UPDATE agent.{table} SET {moved}"))  # noqa: S608 - our tables


async def test_events_go_and_the_answer_stays(own_agent: AgentUnderTest, own_database: Database) -> None:
    user_id = some_user()
    old = await own_agent.run(user_id, "[[sim:reply=old]]")
    await a_day_passes(own_database)
    fresh = await own_agent.run(user_id, "[[sim:reply=fresh]]")

    await Retention(own_database, DAY_S, 60.0).sweep()

    with pytest.raises(PreconditionFailed) as refused:
        await own_agent.follow(user_id, old.run_id)
    assert refused.value.reason == "EVENTS_EXPIRED"
    assert (await own_agent.get_run(user_id, old.run_id)).message.content == "old"
    assert len(await own_agent.follow(user_id, fresh.run_id)) == len(fresh.events)


async def test_keys_give_the_same_for_a_day_and_something_new_after(
    own_agent: AgentUnderTest, own_database: Database
) -> None:
    user_id, key = some_user(), new_id().hex
    sweep = Retention(own_database, DAY_S, 60.0).sweep
    thread = await own_agent.create_thread(user_id, key=key)
    run = await own_agent.run(user_id, "Hello", idempotency_key=key)
    await sweep()
    same_thread = await own_agent.create_thread(user_id, key=key)
    same_run = await own_agent.run(user_id, "Hello", idempotency_key=key)
    await a_day_passes(own_database)

    await sweep()

    assert same_thread.id == thread.id
    assert same_run.run_id == run.run_id
    assert (await own_agent.create_thread(user_id, key=key)).id != thread.id
    assert (await own_agent.run(user_id, "Hello", idempotency_key=key)).run_id != run.run_id


async def test_a_pass_is_bounded_and_takes_the_oldest_first(own_agent: AgentUnderTest, own_database: Database) -> None:
    user_id = some_user()
    turns = []
    for number in range(3):
        turns.append(await own_agent.run(user_id, f"[[sim:reply={number}]]"))
        await a_day_passes(own_database)

    async with own_database.as_worker() as connection:
        dropped = await retention.drop_expired(connection, DAY_S, limit=2)

    assert dropped == {"frames": 2, "run_keys": 0, "thread_keys": 0, "plans": 0}
    assert await own_agent.follow(user_id, turns[2].run_id)


async def test_a_running_run_and_rows_in_use_are_left_alone(own_agent: AgentUnderTest, own_database: Database) -> None:
    user_id = some_user()
    ended = await own_agent.run(user_id, "Hello", idempotency_key="key")
    await a_day_passes(own_database)

    async with own_database.as_worker() as connection:
        await connection.execute(text("SELECT id FROM agent.runs FOR UPDATE"))
        dropped = await Retention(own_database, DAY_S, 60.0).sweep()

    assert dropped == 0
    assert await own_agent.follow(user_id, ended.run_id)
