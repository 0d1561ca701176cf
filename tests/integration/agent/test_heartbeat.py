"""Renewing leases and claiming runs must not wait for transactions that hold a lease's row."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mesh_agent.store import claims
from mesh_agent.store.claims import Owner
from mesh_common.database.postgres import Database
from sqlalchemy import text
from support.agent import eventually, some_user
from support.locks import waiting_for_locks
from support.mesh import TestMesh
from support.replicas import claimed_by_a_dead_owner, insert_pending, replica

STUCK = "[[sim:reply=one two three]] [[sim:itl=20000]]"
LEASE_TTL_S = 1


@asynccontextmanager
async def _lease_locked(database: Database, run_id: str) -> AsyncIterator[None]:
    """As a slow transaction that ends the run or stores a safe point."""
    async with database.as_worker() as connection:
        locked = await connection.execute(
            text("SELECT fence FROM agent.leases WHERE run_id = :run_id FOR UPDATE"), {"run_id": run_id}
        )
        locked.scalar_one()
        yield


@asynccontextmanager
async def _thread_locked(database: Database, thread_id: str) -> AsyncIterator[float]:
    """Locks a thread, as a slow transaction of another replica does; gives the database's time in seconds."""
    async with database.as_worker() as connection:
        locked = await connection.execute(
            text("SELECT extract(epoch FROM clock_timestamp()) FROM agent.threads WHERE id = :id FOR UPDATE"),
            {"id": thread_id},
        )
        yield float(locked.scalar_one())


async def _since_s(database: Database, past_s: float) -> float:
    async with database.as_worker() as connection:
        now = await connection.execute(text("SELECT extract(epoch FROM clock_timestamp())"))
        return float(now.scalar_one()) - past_s


async def _overdue_s(database: Database, run_id: str) -> float:
    """Seconds since a run's lease expired; negative while it holds."""
    statement = "SELECT extract(epoch FROM clock_timestamp() - expires_at) FROM agent.leases WHERE run_id = :run_id"
    async with database.as_worker() as connection:
        return float((await connection.execute(text(statement), {"run_id": run_id})).scalar_one())


async def test_run_whose_lease_is_locked_costs_no_other_run_its_lease(
    own_mesh: TestMesh, model_url: str, own_database: Database
) -> None:
    user_id = some_user()
    async with (
        replica(own_mesh, model_url, AGENT_LEASE_TTL_S=str(LEASE_TTL_S)) as owner,
        owner.starting(user_id, STUCK) as locked,
        owner.starting(user_id, STUCK) as bystander,
    ):
        await locked.until("message_delta")
        await bystander.until("message_delta")

        async with _lease_locked(own_database, locked.run_id):
            await eventually(lambda: _overdue_s(own_database, locked.run_id), lambda past_s: past_s > LEASE_TTL_S)
            overdue_s = await _overdue_s(own_database, bystander.run_id)
            run = await owner.get_run(user_id, bystander.run_id)

        await owner.cancel(user_id, bystander.run_id)

    assert run.attempt == 1
    assert overdue_s < 0


async def test_requests_that_hold_every_connection_cost_no_run_its_lease(
    own_mesh: TestMesh, model_url: str, own_database: Database
) -> None:
    """A pool at 1.5 times its capacity once delayed heartbeats until a replica had lost all its leases."""
    user_id = some_user()
    narrow = {"AGENT_DATABASE_POOL_SIZE": "1", "AGENT_DATABASE_MAX_OVERFLOW": "0"}
    async with (
        replica(own_mesh, model_url, AGENT_LEASE_TTL_S="2", **narrow) as owner,
        owner.starting(user_id, STUCK) as started,
    ):
        await started.until("message_delta")

        async with _thread_locked(own_database, started.thread_id) as locked_at_s:
            waiting = asyncio.ensure_future(owner.delete_thread(user_id, started.thread_id))
            await eventually(lambda: waiting_for_locks(own_database), bool)
            await eventually(lambda: _since_s(own_database, locked_at_s), lambda past_s: past_s > 3)
            overdue_s = await _overdue_s(own_database, started.run_id)
        await waiting

    assert overdue_s < 0


async def test_lease_that_is_locked_holds_up_no_other_claim(own_database: Database) -> None:
    user_id = some_user()
    other, locked = [await insert_pending(own_database, user_id, "Hello") for _ in range(2)]
    await claimed_by_a_dead_owner(own_database, locked, ttl_s=0.0)

    async with _lease_locked(own_database, locked), own_database.as_worker() as connection:
        claimed = await claims.claim_runs(connection, Owner("heir", "heir:1"), limit=10, ttl_s=60)

    assert [str(claim.run_id) for claim in claimed] == [other]
