"""Threads deleted while a run executes on them: the run ends, and only its usage is kept."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from uuid import UUID

import pytest
from mesh_agent.domain.attempts import LeaseLostError, Outcome
from mesh_agent.domain.runs import RunStatus, Usage
from mesh_agent.execution.ending import EndRun
from mesh_agent.store import threads
from mesh_common.database.postgres import Database
from mesh_common.errors import MeshError, NotFound
from mesh_common.ids import ThreadId, UserId, new_id
from mesh_common.jobs.queue import JobQueue
from simulator.client import SimulatorAdmin
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from support.agent import AgentUnderTest, Followed, Started, eventually, some_user
from support.locks import waiting_for_locks
from support.mesh import TestMesh
from support.replicas import claimed_by_a_dead_owner, insert_pending, replica
from support.subjects import personal
from support.tool_server import ToolServer, running_tool_server

STUCK = "[[sim:reply=one two three]] [[sim:itl=20000]]"
MARK = '[[sim:tool=mark {"token": "t-1"}]] [[sim:reply=It says {tool_result}.]]'
SHORT_LEASE = {"AGENT_LEASE_TTL_S": "1"}
# The first heartbeat is sent after 20 s.
LONG_LEASE = {"AGENT_LEASE_TTL_S": "60"}
SOON_S = 10


@pytest.fixture
async def tool() -> AsyncIterator[ToolServer]:
    """A tool that answers when the test lets it."""
    async with running_tool_server() as server:
        server.answers.clear()
        yield server


async def kinds(started: Started) -> list[str | None]:
    return [event.WhichOneof("event") for event in await started.rest()]


async def billed(database: Database, run_id: str) -> list[int]:
    """Output tokens of each bill of a run. Bills stay in the outbox, because auth is unavailable."""
    async with database.as_worker() as connection:
        return list((await connection.execute(_BILLED, {"run_id": run_id})).scalars())


_BILLED = text("""
    SELECT (payload ->> 'output_tokens')::int FROM agent.outbox WHERE kind = 'record_usage' AND key = :run_id
""")


async def delete_without_notice(connection: AsyncConnection, user_id: UserId, thread_id: str) -> None:
    """As a replica that is lost before it tells the owner."""
    assert await threads.delete_thread(connection, user_id, ThreadId(UUID(thread_id))) is not None


TABLES = (
    "threads",
    "runs",
    "messages",
    "leases",
    "once_calls",
    "checkpoints",
    "checkpoint_blobs",
    "checkpoint_writes",
)


async def left(database: Database, user_id: UserId) -> dict[str, int]:
    """The number of the user's rows in each table that has any, without the outbox."""
    counts = ", ".join(f"(SELECT count(*) FROM agent.{table}) AS {table}" for table in TABLES)  # noqa: S608 - our own
    async with database.as_subject(personal(user_id)) as connection:
        row = (await connection.execute(text(f"SELECT {counts}"))).mappings().one()
    return {table: count for table, count in row.items() if count}


async def outbox_kinds(database: Database, user_id: UserId) -> set[str]:
    async with database.as_subject(personal(user_id)) as connection:
        return set((await connection.execute(text("SELECT kind FROM agent.outbox"))).scalars())


async def test_deleting_a_thread_cancels_its_run_and_nothing_comes_back(
    agent: AgentUnderTest, agent_database: Database, simulator: SimulatorAdmin
) -> None:
    user_id = some_user()
    thread_id = (await agent.run(user_id, "Hello")).thread_id
    async with agent.starting(user_id, STUCK, thread_id=thread_id) as started:
        await started.until("message_delta")

        await agent.delete_thread(user_id, thread_id)

        rest = await started.rest()
    assert [event.WhichOneof("event") for event in rest] == ["run_cancelled"]
    await eventually(simulator.requests, lambda requests: requests[-1]["outcome"] == "client_left")
    for call in (agent.get_run(user_id, started.run_id), agent.messages(user_id, thread_id)):
        with pytest.raises(NotFound):
            await call
    assert await left(agent_database, user_id) == {}
    assert await outbox_kinds(agent_database, user_id) <= {"forget_thread", "record_usage"}


async def test_dead_letters_go_with_their_thread_but_not_its_bill(
    own_mesh: TestMesh, model_url: str, own_database: Database
) -> None:
    user_id = some_user()
    async with replica(own_mesh, model_url, AGENT_EVAL_SAMPLE_RATIO="1") as agent:
        thread_id = (await agent.run(user_id, "Hello")).thread_id
        async with own_database.as_worker() as connection:
            await connection.execute(text("UPDATE agent.outbox SET due_at = 'infinity', attempt = 0"))
        before = await outbox_kinds(own_database, user_id)

        await agent.delete_thread(user_id, thread_id)

    assert before == {"record_usage", "remember", "submit_run"}
    assert await outbox_kinds(own_database, user_id) == {"record_usage", "forget_thread"}


async def test_threads_can_be_deleted_while_their_runs_end(agent: AgentUnderTest) -> None:
    """Both lock the same rows in the same order, so neither fails with a deadlock."""
    user_id = some_user()

    async def turn_and_delete() -> list[str | None]:
        async with agent.starting(user_id, "[[sim:reply=a b]] [[sim:itl=5]]") as started:
            await started.until("message_delta")
            await agent.delete_thread(user_id, started.thread_id)
            return [event.WhichOneof("event") for event in await started.rest()]

    endings = await asyncio.gather(*(turn_and_delete() for _ in range(20)))

    assert not [names for names in endings if "run_failed" in names]


@pytest.mark.parametrize("where", ["at the owner", "elsewhere"])
async def test_nothing_is_left_of_a_tool_loop_but_its_bill(
    own_mesh: TestMesh, model_url: str, own_database: Database, tool: ToolServer, where: str
) -> None:
    """A call of a `once` tool has begun, so its record and the checkpoints before it are stored."""
    user_id = some_user()
    tools = {"AGENT_HTTP_TOOLS": tool.as_setting("once")}
    async with (
        replica(own_mesh, model_url, **LONG_LEASE, **tools) as owner,
        replica(own_mesh, model_url, **LONG_LEASE) as other,
        owner.starting(user_id, MARK) as started,
    ):
        await started.until("tool_started")
        before = await left(own_database, user_id)

        await (owner if where == "at the owner" else other).delete_thread(user_id, started.thread_id)

        async with asyncio.timeout(SOON_S):
            rest = await kinds(started)
        bills = await billed(own_database, started.run_id)
    assert set(before) == set(TABLES)
    assert rest == ["tool_finished", "run_cancelled"]
    assert await left(own_database, user_id) == {}
    assert await outbox_kinds(own_database, user_id) == {"forget_thread", "record_usage"}
    assert bills[0] > 0


async def test_nothing_is_left_of_a_run_that_begins_while_its_thread_is_deleted(
    own_mesh: TestMesh, model_url: str, own_database: Database, tool: ToolServer
) -> None:
    """The deletion waits for a lock on a job of the thread. The new run is added before or after it."""
    user_id = some_user()
    tools = {"AGENT_HTTP_TOOLS": tool.as_setting("once"), "AGENT_REMEMBER_DELAY_S": "60"}
    async with replica(own_mesh, model_url, **LONG_LEASE, **tools) as agent:
        thread_id = (await agent.run(user_id, "Hello")).thread_id
        async with asyncio.TaskGroup() as group:
            async with own_database.as_subject(personal(user_id)) as working:
                await working.execute(text("SELECT id FROM agent.outbox WHERE kind = 'remember' FOR UPDATE"))
                deleting = group.create_task(agent.delete_thread(user_id, thread_id))
                await eventually(lambda: waiting_for_locks(own_database), lambda waiting: waiting == 1)
                starting = group.create_task(outcome_of(agent.run(user_id, MARK, thread_id=thread_id)))
                await eventually(
                    lambda: waiting_for_locks(own_database), lambda waiting: waiting > 1 or tool.called.is_set()
                )
            await deleting
            tool.answers.set()

    assert await left(own_database, user_id) == {}
    assert isinstance(starting.result(), NotFound)


async def outcome_of(turn: Awaitable[Followed]) -> Followed | MeshError:
    try:
        return await turn
    except MeshError as error:
        return error


async def test_thread_deleted_elsewhere_ends_its_run_at_once_and_bills_it(
    own_mesh: TestMesh, model_url: str, own_database: Database, simulator: SimulatorAdmin
) -> None:
    user_id = some_user()
    async with (
        replica(own_mesh, model_url, **LONG_LEASE) as owner,
        replica(own_mesh, model_url, **LONG_LEASE) as other,
        owner.starting(user_id, STUCK) as started,
    ):
        await started.until("message_delta")

        await other.delete_thread(user_id, started.thread_id)

        async with asyncio.timeout(SOON_S):
            rest = await kinds(started)
        bills = await billed(own_database, started.run_id)
    assert rest == ["run_cancelled"]
    assert bills == [1]
    await eventually(simulator.requests, lambda requests: requests[-1]["outcome"] == "client_left")


async def test_owner_that_is_not_told_bills_at_its_heartbeat(
    own_mesh: TestMesh, model_url: str, own_database: Database
) -> None:
    user_id = some_user()
    async with replica(own_mesh, model_url, **SHORT_LEASE) as owner, owner.starting(user_id, STUCK) as started:
        await started.until("message_delta")

        async with own_database.as_subject(personal(user_id)) as connection:
            await delete_without_notice(connection, user_id, started.thread_id)

        rest = await kinds(started)
        bills = await billed(own_database, started.run_id)
    assert rest == ["run_cancelled"]
    assert bills == [1]


async def test_owner_that_learns_of_it_at_a_safe_point_bills(
    own_mesh: TestMesh, model_url: str, own_database: Database, tool: ToolServer
) -> None:
    user_id = some_user()
    tools = {"AGENT_HTTP_TOOLS": tool.as_setting("none")}
    async with replica(own_mesh, model_url, **LONG_LEASE, **tools) as owner, owner.starting(user_id, MARK) as started:
        await started.until("tool_started")
        async with own_database.as_subject(personal(user_id)) as connection:
            await delete_without_notice(connection, user_id, started.thread_id)

        tool.answers.set()

        rest = await kinds(started)
        bills = await billed(own_database, started.run_id)
    assert (rest[0], rest[-1]) == ("tool_finished", "run_cancelled")
    assert bills[0] > 0


async def test_run_whose_thread_is_deleted_while_its_end_is_stored_is_billed(
    own_mesh: TestMesh, model_url: str, own_database: Database, tool: ToolServer
) -> None:
    user_id = some_user()
    tools = {"AGENT_HTTP_TOOLS": tool.as_setting("none")}
    async with replica(own_mesh, model_url, **LONG_LEASE, **tools) as owner, owner.starting(user_id, MARK) as started:
        await started.until("tool_started")
        async with own_database.as_subject(personal(user_id)) as deleting:
            await deleting.execute(text("SELECT id FROM agent.runs FOR UPDATE"))
            tool.answers.set()
            await started.until("message_completed")
            await eventually(lambda: waiting_for_locks(own_database), bool)
            await delete_without_notice(deleting, user_id, started.thread_id)

        rest = await kinds(started)
        bills = await billed(own_database, started.run_id)
    assert rest == ["run_cancelled"]
    assert bills[0] > 0


async def test_owner_whose_run_was_taken_over_bills_nothing(own_database: Database) -> None:
    """Nor does an owner whose lease has expired by its clock: another may have owned the run since, and bills it."""
    user_id = some_user()
    run_id = await insert_pending(own_database, user_id, "Hello")
    stale = await claimed_by_a_dead_owner(own_database, run_id)
    last = await claimed_by_a_dead_owner(own_database, run_id, ttl_s=60)
    end_run = EndRun(own_database, JobQueue("agent.outbox"), 0.0, 0.0)
    outcome = Outcome(RunStatus.CANCELLED, "", new_id(), "m", {"m": Usage(1, 7)})

    with pytest.raises(LeaseLostError):
        await end_run.discard(stale, outcome, lambda: True)
    async with own_database.as_subject(personal(user_id)) as connection:
        await delete_without_notice(connection, user_id, str(last.thread_id))
    with pytest.raises(LeaseLostError):
        await end_run.discard(stale, outcome, lambda: False)

    assert await billed(own_database, run_id) == []
    for _ in range(2):
        await end_run.discard(last, outcome, lambda: True)
    assert await billed(own_database, run_id) == [7]
