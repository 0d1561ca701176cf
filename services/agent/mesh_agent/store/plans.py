"""SQL of plans. All of it needs the worker role, because a plan belongs to no user (docs/adr/0022)."""

from mesh_common.database.statements import Statement

from mesh_agent.domain.attempts import Claim
from mesh_agent.store import Connection


async def keep_plan(connection: Connection, plan_hash: bytes, data: bytes) -> None:
    """Stores the plan, or updates its time of last use."""
    await _KEEP.count(connection, {"hash": plan_hash, "plan": data})


_KEEP = Statement(
    "agent.keep_plan",
    """
    INSERT INTO agent.plans (hash, plan) VALUES (:hash, :plan)
    ON CONFLICT (hash) DO UPDATE SET used_at = clock_timestamp()
""",
)


async def plan_of(connection: Connection, plan_hash: bytes) -> bytes | None:
    row = await _PLAN.row(connection, {"hash": plan_hash})
    return row["plan"] if row else None


_PLAN = Statement("agent.plan_of", "SELECT plan FROM agent.plans WHERE hash = :hash")


async def set_plan(connection: Connection, claim: Claim, plan_hash: bytes) -> None:
    """For a run without a plan. Does nothing if another attempt of the run has begun."""
    await _SET.count(connection, {"run_id": claim.run_id, "attempt": claim.attempt, "hash": plan_hash})


_SET = Statement(
    "agent.set_plan",
    "UPDATE agent.runs SET plan_hash = :hash WHERE id = :run_id AND attempt = :attempt AND status = 'running'",
)
