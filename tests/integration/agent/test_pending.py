"""Pending runs: how many are allowed, and which is claimed first."""

import itertools

import pytest
from mesh.agent.v1 import agent_pb2
from mesh_agent.execution.backlog import Backlog
from mesh_agent.store import unended
from mesh_common.database.postgres import Database
from mesh_common.database.sqlalchemy_engine import open_database
from mesh_common.database.statements import Statement, driver_of
from mesh_common.errors import Unavailable
from mesh_common.ids import new_id
from sqlalchemy import text
from support.agent import agent_settings, owner_connection, rows_of, running_agent, some_user
from support.mesh import TestMesh
from support.subjects import personal

SLOW = "[[sim:itl=20000]]"
TWO_PENDING = {"AGENT_MAX_PENDING_RUNS": "2"}


async def test_pending_runs_of_a_user_are_bounded(migrated_mesh: TestMesh, model_url: str) -> None:
    user_id = some_user()
    settings = agent_settings(migrated_mesh, model_url, AGENT_MAX_PENDING_RUNS_PER_USER="2")

    async with running_agent(migrated_mesh, settings) as bounded, bounded.starting(user_id, SLOW) as running:
        for _ in range(2):
            async with bounded.starting(user_id, "waits", thread_id=running.thread_id):
                pass
        with pytest.raises(Unavailable) as refused:
            await bounded.run(user_id, "too many", thread_id=running.thread_id)
        await bounded.delete_thread(user_id, running.thread_id)

    assert refused.value.reason == "TOO_MANY_PENDING_RUNS"
    assert refused.value.retry_after_s


async def test_pending_runs_of_all_users_are_bounded(own_mesh: TestMesh, model_url: str) -> None:
    refused_id, settings = some_user(), agent_settings(own_mesh, model_url, AGENT_MAX_RUNS="1", **TWO_PENDING)

    async with (
        running_agent(own_mesh, settings) as bounded,
        bounded.starting(some_user(), SLOW) as running,
        open_database(settings, schema="agent") as database,
    ):
        await running.until("message_delta")
        waiting = [(some_user(), str(new_id())) for _ in range(2)]
        for user_id, run_id in waiting:
            async with bounded.starting(user_id, "waits", run_id=run_id):
                pass
        with pytest.raises(Unavailable) as refused:
            await bounded.run(refused_id, "too many")
        async with bounded.starting(waiting[0][0], "waits", run_id=waiting[0][1]) as again:
            pass
        left = await rows_of(database, refused_id)
        await bounded.drain()

    assert (refused.value.reason, refused.value.retry_after_s) == ("TOO_MANY_PENDING_RUNS", 5.0)
    assert left == 0
    assert again.run_id == waiting[0][1]


async def test_runs_that_wait_elsewhere_are_counted(own_mesh: TestMesh, model_url: str) -> None:
    user_id = some_user()
    settings = agent_settings(own_mesh, model_url)
    async with (
        running_agent(own_mesh, settings) as agent,
        agent.starting(user_id, SLOW) as running,
        open_database(settings, schema="agent") as database,
    ):
        for _ in range(2):
            async with agent.starting(user_id, "waits", thread_id=running.thread_id):
                pass
        backlog = Backlog(database, 2)

        await backlog.count()

        with backlog.joining() as join, pytest.raises(Unavailable):
            join()
        await agent.delete_thread(user_id, running.thread_id)
        await backlog.count()
        with backlog.joining() as join:
            join()


async def test_place_of_a_run_that_waits_no_more_is_free_before_the_next_count(
    own_mesh: TestMesh, model_url: str
) -> None:
    settings = agent_settings(own_mesh, model_url, AGENT_MAX_RUNS="1", AGENT_MAX_PENDING_RUNS="1")

    async with running_agent(own_mesh, settings) as bounded:
        for _ in range(2):
            async with bounded.starting(some_user(), "[[sim:reply=a b]] [[sim:ttft=100]]") as first:
                # Until then it may be pending itself, because the run before it has only just ended.
                await first.until("run_started")
                turn = await bounded.run(some_user(), "waits")

    assert turn.last.HasField("run_finished")


async def test_replica_with_room_for_one_takes_the_oldest_first(own_mesh: TestMesh, model_url: str) -> None:
    user_id = some_user()
    settings = agent_settings(own_mesh, model_url, AGENT_MAX_RUNS="1")
    message = "[[sim:reply=a b]] [[sim:ttft=100]]"

    async with running_agent(own_mesh, settings) as small:
        run_ids = []
        for _ in range(3):
            async with small.starting(user_id, message) as started:
                run_ids.append(started.run_id)
        waiting = await small.get_run(user_id, run_ids[2])
        for run_id in run_ids:
            await small.follow(user_id, run_id)
        ended = [await small.get_run(user_id, run_id) for run_id in run_ids]

    assert waiting.status == agent_pb2.RUN_STATUS_PENDING
    for before, after in itertools.pairwise(ended):
        assert before.ended_at.ToNanoseconds() <= after.started_at.ToNanoseconds()


@pytest.mark.parametrize(
    "statement", [unended.COUNT_PENDING, unended.COUNT_PENDING_ELSEWHERE], ids=["all", "elsewhere"]
)
async def test_counting_pending_runs_reads_neither_ended_runs_nor_those_of_others(
    own_mesh: TestMesh, own_database: Database, statement: Statement
) -> None:
    async with owner_connection(own_mesh) as connection:
        user_id, thread_id = (await connection.execute(_RUNS_OF_MANY)).tuples().all()[0]
        await connection.execute(text("ANALYZE agent.runs"))

    async with own_database.as_subject(personal(user_id)) as connection:
        explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement.sql}"
        values = (user_id, thread_id) if statement is unended.COUNT_PENDING_ELSEWHERE else (user_id,)
        [found] = await driver_of(connection).fetchval(explain, *values)

    assert "runs_pending_user" in str(found)
    assert found["Plan"]["Shared Hit Blocks"] + found["Plan"]["Shared Read Blocks"] < 20


# 1,000 users, each with 100 ended runs and 5 that wait.
_RUNS_OF_MANY = text("""
    WITH many AS (
        INSERT INTO agent.threads (id, user_id)
        SELECT gen_random_uuid(), gen_random_uuid() FROM generate_series(1, 1000)
        RETURNING id, user_id
    )
    INSERT INTO agent.runs (id, user_id, thread_id, status)
    SELECT gen_random_uuid(), user_id, id, CASE WHEN number <= 100 THEN 'succeeded' ELSE 'pending' END
    FROM generate_series(1, 105) AS number CROSS JOIN many ORDER BY number
    RETURNING user_id, thread_id
""")
