"""Renewing leases and claiming runs must not wait for transactions that hold a lease's row."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mesh_agent.store import claims
from mesh_agent.store.claims import Owner
from mesh_common.database.postgres import Database
from sqlalchemy import text
from support.agent import eventually, some_user
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


async def test_lease_that_is_locked_holds_up_no_other_claim(own_database: Database) -> None:
    user_id = some_user()
    other, locked = [await insert_pending(own_database, user_id, "Hello") for _ in range(2)]
    await claimed_by_a_dead_owner(own_database, locked, ttl_s=0.0)

    async with _lease_locked(own_database, locked), own_database.as_worker() as connection:
        claimed = await claims.claim_runs(connection, Owner("heir", "heir:1"), limit=10, ttl_s=60)

    assert [str(claim.run_id) for claim in claimed] == [other]
