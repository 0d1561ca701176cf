"""Several replicas on one database: relay, remote cancellation, hand-over."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from mesh.agent.v1 import agent_pb2
from mesh_agent.store import claims
from mesh_common.database.postgres import Database
from sqlalchemy import text
from support.agent import eventually, owner_connection, some_user
from support.locks import waiting_for_locks
from support.mesh import TestMesh
from support.replicas import claimed_by_a_dead_owner, insert_pending, replica
from support.subjects import personal

STUCK = "[[sim:reply=one two three]] [[sim:itl=20000]]"
LOOP = '[[sim:tool=calculate {"expression": "6*7"}]] [[sim:reply=It is {tool_result}.]]'
SHORT_LEASE = {"AGENT_LEASE_TTL_S": "1"}


async def test_follower_elsewhere_is_relayed_to_the_owner(own_mesh: TestMesh, model_url: str) -> None:
    user_id = some_user()
    message = "[[sim:reply=one two three]] [[sim:itl=200]]"
    async with (
        replica(own_mesh, model_url) as owner,
        replica(own_mesh, model_url) as other,
        owner.starting(user_id, message) as started,
    ):
        first = await started.until("message_delta")

        events = await other.follow(user_id, started.run_id)

        rest = await started.rest()

    assert events[first.seq - 1 :] == [first, *rest]


async def test_cancel_elsewhere_reaches_the_owner_at_once(own_mesh: TestMesh, model_url: str) -> None:
    """With leases of a minute, no heartbeat would tell the owner in time."""
    user_id = some_user()
    slow = {"AGENT_LEASE_TTL_S": "60"}
    async with (
        replica(own_mesh, model_url, **slow) as owner,
        replica(own_mesh, model_url, **slow) as other,
        owner.starting(user_id, STUCK) as started,
    ):
        await started.until("message_delta")

        run = await other.cancel(user_id, started.run_id)

        rest = await started.rest()

    assert run.status == agent_pb2.RUN_STATUS_CANCELLED
    assert [event.WhichOneof("event") for event in rest] == ["run_cancelled"]


async def test_cancel_reaches_an_owner_out_of_reach_by_its_heartbeat(
    own_mesh: TestMesh, model_url: str, own_database: Database
) -> None:
    user_id = some_user()
    async with replica(own_mesh, model_url, **SHORT_LEASE) as owner, owner.starting(user_id, STUCK) as started:
        await started.until("message_delta")

        async with own_database.as_subject(personal(user_id)) as connection:
            await connection.execute(text("UPDATE agent.runs SET is_cancel_requested = true"))

        rest = await started.rest()
    assert [event.WhichOneof("event") for event in rest] == ["run_cancelled"]


async def test_drained_replica_gives_back_what_a_claim_under_way_brings(
    own_mesh: TestMesh, model_url: str, own_database: Database
) -> None:
    """Otherwise the run would wait until its lease expires, and the attempt would count as lost."""
    user_id = some_user()
    async with replica(own_mesh, model_url, AGENT_DRAIN_S="0.1") as going:
        async with owner_connection(own_mesh) as locking:
            await locking.execute(text("LOCK TABLE agent.leases IN ACCESS EXCLUSIVE MODE"))
            run_id = await insert_pending(own_database, user_id, "Hello [[sim:itl=20000]]")
            await eventually(lambda: waiting_for_locks(own_database), bool)
            draining = asyncio.ensure_future(going.drain())
            await asyncio.sleep(0)
        await draining
        async with own_database.as_worker() as connection:
            leases = (await connection.execute(text("SELECT count(*) FROM agent.leases"))).scalar_one()
            run = (await connection.execute(text("SELECT id::text, status, lost_attempts FROM agent.runs"))).one()

    assert leases == 0
    assert tuple(run) == (run_id, "pending", 0)


async def test_drained_replica_gives_its_run_back_and_another_ends_it(own_mesh: TestMesh, model_url: str) -> None:
    user_id = some_user()
    message = "[[sim:reply=one two three]] [[sim:itl=700]]"
    async with (
        replica(own_mesh, model_url, AGENT_DRAIN_S="0.1") as going,
        going.starting(user_id, message) as started,
    ):
        await started.until("message_delta")
        async with replica(own_mesh, model_url) as staying:
            await going.drain()
            cut = [event.WhichOneof("event") for event in await started.rest()]

            events = await staying.follow(user_id, started.run_id)
            run = await staying.get_run(user_id, started.run_id)

    assert "run_finished" not in cut
    assert events[0].WhichOneof("event") == "run_restarted"
    assert events[-1].WhichOneof("event") == "run_finished"
    assert run.attempt == 2


async def test_released_runs_do_not_count_as_lost(own_database: Database) -> None:
    user_id = some_user()
    run_id = await insert_pending(own_database, user_id, "Hello")

    for _ in range(4):
        claim = await claimed_by_a_dead_owner(own_database, run_id, ttl_s=60)
        async with own_database.as_worker() as connection:
            await claims.release_run(connection, claim)

    assert claim.attempt == 4
    assert claim.lost_attempts == 0


async def test_cancelled_while_released_ends_in_an_attempt_of_its_own(
    own_mesh: TestMesh, model_url: str, own_database: Database
) -> None:
    user_id = some_user()
    run_id = await insert_pending(own_database, user_id, "Hello")
    claim = await claimed_by_a_dead_owner(own_database, run_id, ttl_s=60)
    async with replica(own_mesh, model_url, AGENT_MAX_RUNS="1") as full, full.starting(some_user(), STUCK) as busy:
        await busy.until("message_delta")
        async with own_database.as_worker() as connection:
            await claims.release_run(connection, claim)

        run = await full.cancel(user_id, run_id)
        events = await full.follow(user_id, run_id, attempt=1, seq=9)

        await full.drain()

    assert run.status == agent_pb2.RUN_STATUS_CANCELLED
    received = [(event.attempt, event.seq, event.WhichOneof("event")) for event in events]
    assert received == [(2, 1, "run_restarted"), (2, 2, "run_cancelled")]


async def test_cancel_is_answered_in_time_while_the_owner_is_frozen(
    own_mesh: TestMesh, model_url: str, own_database: Database
) -> None:
    """The gateway waits for 5 s. The response has the run's current state, and the next owner ends the run."""
    user_id = some_user()
    run_id = await insert_pending(own_database, user_id, "Hello")
    with silent_server() as address:
        # Before the replica is there, which would claim the pending run.
        await claimed_by_a_dead_owner(own_database, run_id, ttl_s=60, address=address)
        async with replica(own_mesh, model_url) as other:
            async with asyncio.timeout(4.5):
                run = await other.cancel(user_id, run_id)
            async with own_database.as_worker() as connection:
                await connection.execute(text("UPDATE agent.leases SET expires_at = now()"))
            ended = await eventually(lambda: other.get_run(user_id, run_id), lambda found: found.HasField("ended_at"))

    assert run.status == agent_pb2.RUN_STATUS_RUNNING
    assert ended.status == agent_pb2.RUN_STATUS_CANCELLED


@contextmanager
def silent_server() -> Iterator[str]:
    """As a stopped process: the system accepts connections, but nothing answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"
