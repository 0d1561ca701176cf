"""SQL of retention, across users. Needs the worker role."""

from typing import Final

from mesh_common.database.statements import Statement

from mesh_agent.store import Connection

# Locked rows are left for the next pass. A CTE is executed once; a subquery in IN may be executed once per row and then
# exceed its LIMIT.
_DROP: Final = """
    WITH expired AS MATERIALIZED (
        SELECT id FROM agent.{table} WHERE {column} IS NOT NULL AND {since} < now() - make_interval(secs => :keep_s)
        ORDER BY {since} LIMIT :limit FOR UPDATE SKIP LOCKED)
    UPDATE agent.{table} SET {column} = NULL FROM expired WHERE {table}.id = expired.id
"""
_BY_KIND: Final = {
    "frames": Statement("agent.drop_frames", _DROP.format(table="runs", column="frames", since="ended_at")),
    "run_keys": Statement(
        "agent.drop_run_keys", _DROP.format(table="runs", column="idempotency_key", since="created_at")
    ),
    "thread_keys": Statement(
        "agent.drop_thread_keys", _DROP.format(table="threads", column="idempotency_key", since="created_at")
    ),
    # A replica updates `used_at` again after half of this time (`KeptPlans`), so no plan of a starting run is deleted.
    "plans": Statement(
        "agent.drop_plans",
        """
        WITH unused AS MATERIALIZED (
            SELECT hash FROM agent.plans WHERE used_at < now() - make_interval(secs => :keep_s) AND NOT EXISTS (
                SELECT 1 FROM agent.runs WHERE plan_hash = plans.hash AND status IN ('pending', 'running'))
              AND NOT EXISTS (
                SELECT 1 FROM agent.interrupts JOIN agent.runs ON runs.id = interrupts.run_id
                WHERE interrupts.decision IS NULL AND runs.plan_hash = plans.hash)
            ORDER BY used_at LIMIT :limit FOR UPDATE SKIP LOCKED)
        DELETE FROM agent.plans USING unused WHERE plans.hash = unused.hash
    """,
    ),
}


async def drop_expired(connection: Connection, keep_s: float, *, limit: int) -> dict[str, int]:
    """Deletes, oldest first and at most `limit` of each kind: events of runs that ended more than `keep_s` ago,
    idempotency keys of that age, and plans last used that long ago that no unended run refers to.

    Returns the number deleted of each kind.
    """
    parameters = {"keep_s": keep_s, "limit": limit}
    return {kind: await statement.count(connection, parameters) for kind, statement in _BY_KIND.items()}
