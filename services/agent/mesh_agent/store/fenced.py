"""SQL of a transaction that writes checkpoints, besides the checkpoints: it locks and renews the lease if the
fencing number is right, and records a call that may run only once (docs/adr/0011).

These statements run on psycopg, because langgraph-checkpoint-postgres does. All others of the store run on asyncpg.
"""

from typing import Final

from mesh_common.ids import RunId

from mesh_agent.domain.attempts import Claim
from mesh_agent.store.checkpoint_database import CheckpointConnection


async def share_run(connection: CheckpointConnection, run_id: RunId) -> None:
    """Keeps the run from being deleted until this transaction ends."""
    await connection.execute(_SHARE, {"run_id": run_id})


_SHARE: Final = "SELECT 1 FROM agent.runs WHERE id = %(run_id)s FOR KEY SHARE"


async def forget_lost_attempts(connection: CheckpointConnection, claim: Claim) -> None:
    """Resets the count of lost attempts: a new safe point shows that the run makes progress."""
    await connection.execute(_FORGET_LOST, {"run_id": claim.run_id, "attempt": claim.attempt})


_FORGET_LOST: Final = "UPDATE agent.runs SET lost_attempts = 0 WHERE id = %(run_id)s AND attempt = %(attempt)s"


async def lock_lease(connection: CheckpointConnection, claim: Claim, *, ttl_s: float) -> bool:
    """Whether the claim still holds. If so, nobody can take it over before this transaction ends (fencing), and its
    lease lasts `ttl_s` from now once the transaction has committed."""
    parameters = {"thread_id": claim.thread_id, "fence": claim.fence, "ttl_s": ttl_s}
    cursor = await connection.execute(_LOCK_LEASE, parameters)
    return await cursor.fetchone() is not None


_LOCK_LEASE: Final = """
    UPDATE agent.leases SET expires_at = clock_timestamp() + make_interval(secs => %(ttl_s)s)
    WHERE thread_id = %(thread_id)s AND fence = %(fence)s
    RETURNING 1
"""


async def begin_call(connection: CheckpointConnection, claim: Claim, call_key: str) -> bool:
    """Records that this attempt begins a call. False if an earlier attempt has begun it.

    Repeating it in the same attempt returns True again: if the reply to a commit is lost, the transaction is repeated.
    """
    parameters = {"run_id": claim.run_id, "call_key": call_key, "user_id": claim.user_id, "fence": claim.fence}
    cursor = await connection.execute(_BEGIN, parameters)
    return await cursor.fetchone() is not None


_BEGIN: Final = """
    INSERT INTO agent.once_calls AS c (run_id, call_key, user_id, fence)
    VALUES (%(run_id)s, %(call_key)s, %(user_id)s, %(fence)s)
    ON CONFLICT (run_id, call_key) DO UPDATE SET fence = excluded.fence WHERE c.fence = excluded.fence
    RETURNING 1
"""
