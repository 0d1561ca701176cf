"""Several replicas of the agent on one database, some of them dead."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mesh_agent.domain.attempts import Claim
from mesh_agent.store import claims
from mesh_agent.store.claims import Owner
from mesh_common.database.postgres import Database
from mesh_common.ids import UserId, new_id
from sqlalchemy import text

from support.agent import AgentUnderTest, agent_settings, running_agent
from support.mesh import TestMesh
from support.net import free_port
from support.subjects import personal


@asynccontextmanager
async def replica(mesh: TestMesh, model_url: str, **overrides: str) -> AsyncIterator[AgentUnderTest]:
    async with running_agent(mesh, agent_settings(mesh, model_url, **overrides)) as running:
        yield running


async def claimed_by_a_dead_owner(
    database: Database, run_id: str, *, ttl_s: float = 0.5, address: str | None = None
) -> Claim:
    """The claim of a replica that was killed right afterwards: it never renews its lease."""
    owner = Owner(str(new_id()), address or f"127.0.0.1:{free_port()}")
    async with database.as_worker() as connection:
        await connection.execute(text("UPDATE agent.leases SET expires_at = now() - interval '1 s'"))
        found = await claims.claim_runs(connection, owner, limit=100, ttl_s=ttl_s)
    [claim] = [claim for claim in found if str(claim.run_id) == run_id]
    return claim


async def insert_pending(database: Database, user_id: UserId, message: str) -> str:
    """Inserts a run as StartRun stores it, without a replica that could claim it."""
    run_id, thread_id = new_id(), new_id()
    async with database.as_subject(personal(user_id)) as connection:
        await connection.execute(
            text("INSERT INTO agent.threads (id, user_id) VALUES (:thread_id, :user_id)"),
            {"thread_id": thread_id, "user_id": user_id},
        )
        await connection.execute(
            _INSERT_PENDING,
            {"run_id": run_id, "thread_id": thread_id, "user_id": user_id, "message": message, "id": new_id()},
        )
    return str(run_id)


_INSERT_PENDING = text("""
    WITH run AS (
        INSERT INTO agent.runs (id, user_id, thread_id, status) VALUES (:run_id, :user_id, :thread_id, 'pending')
        RETURNING position)
    INSERT INTO agent.messages (id, user_id, thread_id, run_id, position, part, role, content)
    SELECT :id, :user_id, :thread_id, :run_id, position, 0, 'user', :message FROM run
""")
