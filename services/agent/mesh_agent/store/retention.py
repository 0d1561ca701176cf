"""SQL of retention, across users: needs the worker role."""

from typing import Final

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

# Rows that somebody else has locked are left for the next pass.
_DROP: Final = """
    UPDATE agent.{table} SET {column} = NULL WHERE id IN (
        SELECT id FROM agent.{table} WHERE {column} IS NOT NULL AND {since} < now() - make_interval(secs => :keep_s)
        ORDER BY {since} LIMIT :limit FOR UPDATE SKIP LOCKED)
"""
_BY_KIND: Final[dict[str, TextClause]] = {
    "frames": text(_DROP.format(table="runs", column="frames", since="ended_at")),
    "run_keys": text(_DROP.format(table="runs", column="idempotency_key", since="created_at")),
    "thread_keys": text(_DROP.format(table="threads", column="idempotency_key", since="created_at")),
    # A replica uses a plan for half as long after it last said so (`KeptPlans`): no run that starts now misses it.
    "plans": text("""
        DELETE FROM agent.plans WHERE hash IN (
            SELECT hash FROM agent.plans WHERE used_at < now() - make_interval(secs => :keep_s) AND NOT EXISTS (
                SELECT 1 FROM agent.runs WHERE plan_hash = plans.hash AND status IN ('pending', 'running'))
            ORDER BY used_at LIMIT :limit FOR UPDATE SKIP LOCKED)
    """),
}


async def drop_expired(connection: AsyncConnection, keep_s: float, *, limit: int) -> dict[str, int]:
    """Forgets events of runs that ended, idempotency keys that were given, and plans that were used, `keep_s` ago.

    The oldest `limit` each; no plan of a run that has not ended.

    How many of each kind.
    """
    dropped = {}
    for kind, statement in _BY_KIND.items():
        dropped[kind] = (await connection.execute(statement, {"keep_s": keep_s, "limit": limit})).rowcount
    return dropped
