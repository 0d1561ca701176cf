"""Runs whose owner is lost or presumed lost: takeover from the last safe point, fencing, and the limit of attempts."""

import math
import time

import asyncpg
import pytest
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from mesh.agent.v1 import agent_pb2
from mesh_agent.checkpoint import BufferedSaver
from mesh_agent.domain.attempts import LeaseLostError, Outcome
from mesh_agent.domain.runs import RunStatus, Usage
from mesh_agent.events.storage import encode_frames
from mesh_agent.execution.ending import EndRun
from mesh_agent.lease import HeldLease
from mesh_agent.store import claims
from mesh_agent.store.checkpoint_database import CheckpointDatabase
from mesh_common.database.postgres import Database
from mesh_common.ids import UserId, new_id
from mesh_common.jobs.queue import JobQueue
from simulator.client import SimulatorAdmin
from sqlalchemy import text
from support.agent import agent_settings, eventually, owner_connection, running_agent, some_user
from support.locks import waiting_for_locks
from support.mesh import TestMesh
from support.replicas import claimed_by_a_dead_owner, insert_pending, replica
from support.subjects import personal

STUCK = "[[sim:reply=one two three]] [[sim:itl=20000]]"
LOOP = '[[sim:tool=calculate {"expression": "6*7"}]] [[sim:reply=It is {tool_result}.]]'
SHORT_LEASE = {"AGENT_LEASE_TTL_S": "1"}

_LEFT_S = text("SELECT extract(epoch FROM expires_at - clock_timestamp()) FROM agent.leases WHERE run_id = :run_id")


async def test_run_of_a_dead_owner_is_taken_over(own_mesh: TestMesh, model_url: str, own_database: Database) -> None:
    user_id = some_user()
    run_id = await insert_pending(own_database, user_id, "[[sim:reply=done]]")
    await claimed_by_a_dead_owner(own_database, run_id)

    async with replica(own_mesh, model_url) as heir:
        run = await eventually(
            lambda: heir.get_run(user_id, run_id), lambda found: found.status == agent_pb2.RUN_STATUS_SUCCEEDED
        )
        events = await heir.follow(user_id, run_id, attempt=1, seq=5)

    assert run.attempt == 2
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert events[0].WhichOneof("event") == "run_restarted"
    assert events[-1].WhichOneof("event") == "run_finished"


async def test_follower_of_a_dead_owner_at_ones_own_address_waits_for_the_takeover(
    own_mesh: TestMesh, model_url: str, own_database: Database
) -> None:
    """A pod that restarted under its old address must not relay to itself forever."""
    user_id = some_user()
    run_id = await insert_pending(own_database, user_id, "[[sim:reply=done]]")
    settings = agent_settings(own_mesh, model_url)
    address = f"{settings.grpc_host}:{settings.grpc_port}"
    await claimed_by_a_dead_owner(own_database, run_id, ttl_s=1.5, address=address)

    async with running_agent(own_mesh, settings) as heir:
        events = await heir.follow(user_id, run_id)

    assert events[0].WhichOneof("event") == "run_restarted"
    assert events[-1].WhichOneof("event") == "run_finished"


async def test_takeover_reuses_tool_results_of_the_last_safe_point(
    own_mesh: TestMesh, model_url: str, own_database: Database, simulator: SimulatorAdmin
) -> None:
    """The first owner loses its lease while it waits for the answer after the tool."""
    user_id = some_user()
    await simulator.put_rules([{"match": {"anywhere": "42", "times": 1}, "action": {"itl_ms": 20_000}}])
    async with replica(own_mesh, model_url, **SHORT_LEASE) as first:
        async with first.starting(user_id, LOOP) as started:
            await started.until("tool_finished")
            await started.until("message_delta")
            async with own_database.as_subject(personal(user_id)) as connection:
                await connection.execute(text("UPDATE agent.leases SET expires_at = now(), owner = 'nobody'"))
            void = await started.rest()

        run = await eventually(
            lambda: first.get_run(user_id, started.run_id),
            lambda found: found.status == agent_pb2.RUN_STATUS_SUCCEEDED,
        )
        events = await first.follow(user_id, started.run_id)

    restarted = events[0].run_restarted
    assert {event.WhichOneof("event") for event in void} <= {"message_delta"}
    assert run.attempt == 2
    assert [(result.tool, result.content) for result in restarted.reused_tool_results] == [("calculate", "42")]
    assert not [event for event in events if event.HasField("tool_started")]
    assert run.message.content == "It is 42."
    sent = await simulator.requests()
    assert len(sent) == 3
    assert run.usage.output_tokens == sent[0]["tokens"] + sent[2]["tokens"]


async def test_stale_owner_can_neither_end_nor_checkpoint(
    own_database: Database, own_checkpoints: CheckpointDatabase
) -> None:
    user_id = some_user()
    run_id = await insert_pending(own_database, user_id, "Hello")
    stale = await claimed_by_a_dead_owner(own_database, run_id)
    newer = await claimed_by_a_dead_owner(own_database, run_id, ttl_s=60)
    end_run = EndRun(own_database, JobQueue("agent.outbox"), 0.0, 0.0)
    outcome = Outcome(RunStatus.SUCCEEDED, "stale", new_id(), "m", {"m": Usage(1, 1)})

    with pytest.raises(LeaseLostError):
        await end_run(stale, outcome, encode_frames([]), has_checkpoints=False)
    async with BufferedSaver(own_checkpoints).open(stale, HeldLease(math.inf, 60.0)) as checkpoints:
        checkpoints.waiting.append(lambda _: pytest.fail("a stale owner wrote"))
        with pytest.raises(LeaseLostError):
            await checkpoints.flush()

    assert newer.fence > stale.fence
    assert newer.attempt == stale.attempt + 1
    await end_run(newer, outcome, encode_frames([]), has_checkpoints=False)


async def test_safe_point_whose_connection_breaks_is_written_on_another(
    own_mesh: TestMesh, own_database: Database, own_checkpoints: CheckpointDatabase
) -> None:
    run_id = await insert_pending(own_database, some_user(), "Hello")
    claim = await claimed_by_a_dead_owner(own_database, run_id, ttl_s=60)
    tries = []

    async def write(saver: AsyncPostgresSaver) -> None:
        tries.append(saver)
        if len(tries) == 1:
            await _break_connection(own_mesh, saver)
        async with saver._cursor() as cursor:
            await cursor.execute("SELECT 1")

    lease = HeldLease.asked_for(time.monotonic(), 60.0)
    async with BufferedSaver(own_checkpoints).open(claim, lease) as checkpoints:
        checkpoints.waiting.append(write)
        await checkpoints.flush()

    assert len(tries) == 2
    assert checkpoints.waiting == []


async def test_safe_point_renews_the_lease_that_it_locks(
    own_database: Database, own_checkpoints: CheckpointDatabase
) -> None:
    """Heartbeats skip the locked row. With a slow database the run was once taken over from a living owner."""
    run_id = await insert_pending(own_database, some_user(), "Hello")
    claim = await claimed_by_a_dead_owner(own_database, run_id, ttl_s=0.2)
    lease = HeldLease.asked_for(time.monotonic(), 60.0)
    until_s = lease.valid_until_s

    async with BufferedSaver(own_checkpoints).open(claim, lease) as checkpoints:
        assert await checkpoints.begin_once("1:0")

    assert lease.valid_until_s > until_s
    async with own_database.as_worker() as connection:
        left = await connection.execute(_LEFT_S, {"run_id": run_id})
        assert float(left.scalar_one()) > 30.0


async def test_safe_point_of_a_stale_owner_renews_nothing(
    own_database: Database, own_checkpoints: CheckpointDatabase
) -> None:
    run_id = await insert_pending(own_database, some_user(), "Hello")
    stale = await claimed_by_a_dead_owner(own_database, run_id, ttl_s=0.2)
    await claimed_by_a_dead_owner(own_database, run_id, ttl_s=0.2)
    lease = HeldLease.asked_for(time.monotonic(), 60.0)
    until_s = lease.valid_until_s

    async with BufferedSaver(own_checkpoints).open(stale, lease) as checkpoints:
        with pytest.raises(LeaseLostError):
            await checkpoints.begin_once("1:0")

    assert lease.valid_until_s == until_s
    async with own_database.as_worker() as connection:
        left = await connection.execute(_LEFT_S, {"run_id": run_id})
        assert float(left.scalar_one()) < 1.0


async def _break_connection(mesh: TestMesh, saver: AsyncPostgresSaver) -> None:
    """As a restart of PostgreSQL does."""
    async with saver._cursor() as cursor:
        found = await (await cursor.execute("SELECT pg_backend_pid() AS pid")).fetchone()
    assert found
    other = await asyncpg.connect(mesh.database_url("agent"))
    await other.fetchval("SELECT pg_terminate_backend($1, 5000)", found["pid"])
    await other.close()


async def test_run_that_loses_its_owners_again_and_again_fails(
    own_mesh: TestMesh, model_url: str, own_database: Database, simulator: SimulatorAdmin
) -> None:
    user_id = some_user()
    run_id = await insert_pending(own_database, user_id, "Hello")
    for _ in range(3):
        await claimed_by_a_dead_owner(own_database, run_id, ttl_s=0.1)

    async with replica(own_mesh, model_url) as heir:
        await eventually(lambda: heir.get_run(user_id, run_id), lambda run: run.status == agent_pb2.RUN_STATUS_FAILED)
        events = await heir.follow(user_id, run_id)

    assert [event.WhichOneof("event") for event in events] == ["run_restarted", "run_failed"]
    assert events[-1].run_failed.error.reason == "TOO_MANY_ATTEMPTS"
    assert await simulator.requests() == []


async def test_lost_owners_before_a_new_safe_point_count_no_more(
    own_mesh: TestMesh, model_url: str, own_database: Database, simulator: SimulatorAdmin
) -> None:
    """Two were lost before the first tool's result and one after it: never three without progress."""
    user_id = some_user()
    await simulator.put_rules([{"match": {"anywhere": "42", "times": 1}, "action": {"itl_ms": 20_000}}])
    run_id = await insert_pending(own_database, user_id, LOOP)
    for _ in range(2):
        claim = await claimed_by_a_dead_owner(own_database, run_id, ttl_s=0.1)

    async with replica(own_mesh, model_url) as heir:
        await eventually(simulator.requests, lambda requests: len(requests) == 2)
        lost = await _lost_attempts(own_database)
        async with own_database.as_worker() as connection:
            await connection.execute(text("UPDATE agent.leases SET expires_at = now(), owner = 'nobody'"))
        run = await eventually(lambda: heir.get_run(user_id, run_id), lambda found: found.HasField("ended_at"))

    assert (claim.lost_attempts, lost) == (1, 0)
    assert (run.status, run.attempt) == (agent_pb2.RUN_STATUS_SUCCEEDED, 4)
    assert run.message.content == "It is 42."


async def _lost_attempts(database: Database) -> int:
    async with database.as_worker() as connection:
        return int((await connection.execute(text("SELECT lost_attempts FROM agent.runs"))).scalar_one())


async def stuck_after_its_tool(mesh: TestMesh, model_url: str, simulator: SimulatorAdmin, user_id: UserId) -> str:
    """A run with a safe point, given back while it waited for the answer after the tool."""
    await simulator.put_rules([{"match": {"anywhere": "42", "times": 1}, "action": {"itl_ms": 20_000}}])
    async with replica(mesh, model_url, AGENT_DRAIN_S="0.1") as first, first.starting(user_id, LOOP) as started:
        await started.until("tool_finished")
        await started.until("message_delta")
    return started.run_id


@pytest.mark.parametrize(
    ("is_cancelled", "end"), [(False, "run_failed"), (True, "run_cancelled")], ids=["failed", "cancelled"]
)
async def test_run_that_loses_its_owners_keeps_and_costs_what_it_made_durable(
    own_mesh: TestMesh,
    model_url: str,
    own_database: Database,
    simulator: SimulatorAdmin,
    is_cancelled: bool,  # noqa: FBT001
    end: str,
) -> None:
    user_id = some_user()
    run_id = await stuck_after_its_tool(own_mesh, model_url, simulator, user_id)
    for _ in range(3):
        await claimed_by_a_dead_owner(own_database, run_id, ttl_s=0.1)
    async with own_database.as_subject(personal(user_id)) as connection:
        await connection.execute(text("UPDATE agent.runs SET is_cancel_requested = :it"), {"it": is_cancelled})

    async with replica(own_mesh, model_url) as heir:
        run = await eventually(lambda: heir.get_run(user_id, run_id), lambda run: run.HasField("ended_at"))
        events = await heir.follow(user_id, run_id)

    assert [event.WhichOneof("event") for event in events] == ["run_restarted", end]
    assert [result.content for result in events[0].run_restarted.reused_tool_results] == ["42"]
    assert run.usage.output_tokens == (await simulator.requests())[0]["tokens"]
    assert await billed(own_database, run_id) == ("sim-large", run.usage.output_tokens)


async def billed(database: Database, run_id: str) -> tuple[str, int]:
    async with database.as_worker() as connection:
        statement = text("SELECT payload FROM agent.outbox WHERE kind = 'record_usage' AND key = :run_id")
        payload = (await connection.execute(statement, {"run_id": run_id})).scalar_one()
    return payload["model"], payload["output_tokens"]


async def test_run_that_dies_of_what_it_made_durable_fails_without_it(
    own_mesh: TestMesh, model_url: str, own_database: Database, simulator: SimulatorAdmin
) -> None:
    """The owner that was to end it with the stored result was lost as well."""
    user_id = some_user()
    run_id = await stuck_after_its_tool(own_mesh, model_url, simulator, user_id)
    for _ in range(4):
        await claimed_by_a_dead_owner(own_database, run_id, ttl_s=0.1)

    async with replica(own_mesh, model_url) as heir:
        await eventually(lambda: heir.get_run(user_id, run_id), lambda run: run.HasField("ended_at"))
        events = await heir.follow(user_id, run_id)

    assert [event.WhichOneof("event") for event in events] == ["run_restarted", "run_failed"]
    assert not events[0].run_restarted.reused_tool_results


async def test_run_cancelled_before_it_was_read_how_far_it_is_keeps_that(
    own_mesh: TestMesh, model_url: str, own_database: Database, simulator: SimulatorAdmin
) -> None:
    user_id = some_user()
    run_id = await stuck_after_its_tool(own_mesh, model_url, simulator, user_id)
    async with replica(own_mesh, model_url) as heir:
        async with owner_connection(own_mesh) as locking:
            await locking.execute(text("LOCK TABLE agent.checkpoints IN ACCESS EXCLUSIVE MODE"))
            await eventually(lambda: heir.get_run(user_id, run_id), lambda run: run.attempt == 2)
            await eventually(lambda: waiting_for_locks(own_database), bool)
            await heir.cancel(user_id, run_id)

        run = await eventually(lambda: heir.get_run(user_id, run_id), lambda run: run.HasField("ended_at"))
        events = await heir.follow(user_id, run_id)

    assert [event.WhichOneof("event") for event in events] == ["run_restarted", "run_cancelled"]
    assert [result.content for result in events[0].run_restarted.reused_tool_results] == ["42"]
    assert run.usage.output_tokens == (await simulator.requests())[0]["tokens"]


async def test_replica_takes_over_from_itself(own_mesh: TestMesh, model_url: str, own_database: Database) -> None:
    """Its lease expired unnoticed. Of the two attempts in one process, the older stops sending."""
    user_id = some_user()
    message = f"{LOOP} [[sim:ttft=400]]"
    async with replica(own_mesh, model_url, AGENT_LEASE_TTL_S="60") as slow, slow.starting(user_id, message) as started:
        await started.until("tool_finished")
        async with own_database.as_subject(personal(user_id)) as connection:
            await connection.execute(text("UPDATE agent.leases SET expires_at = now()"))
        await _wake(own_database)

        void = await started.rest()
        events = await slow.follow(user_id, started.run_id)
        run = await slow.get_run(user_id, started.run_id)

    assert not [event for event in void if event.attempt != 1 or event.HasField("run_finished")]
    assert events[0].WhichOneof("event") == "run_restarted"
    assert events[-1].WhichOneof("event") == "run_finished"
    assert run.attempt == 2
    assert run.message.content == "It is 42."


async def _wake(database: Database) -> None:
    async with database.as_worker() as connection:
        await claims.notify_pending(connection)
