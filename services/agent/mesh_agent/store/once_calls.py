"""SQL of calls that may run only once (docs/adr/0011)."""

from mesh_common.ids import RunId
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from mesh_agent.domain import Claim


async def share_run(connection: AsyncConnection, run_id: RunId) -> None:
    """Keeps the run from being deleted until this transaction ends."""
    await connection.execute(_SHARE, {"run_id": run_id})


_SHARE = text("SELECT 1 FROM agent.runs WHERE id = :run_id FOR KEY SHARE")


async def begin_call(connection: AsyncConnection, claim: Claim, call_key: str) -> bool:
    """Records that this attempt begins a call. False if an earlier attempt has begun it.

    Repeating it in the same attempt returns True again: if the reply to a commit is lost, the transaction is repeated.
    """
    parameters = {"run_id": claim.run_id, "call_key": call_key, "user_id": claim.user_id, "fence": claim.fence}
    return (await connection.execute(_BEGIN, parameters)).one_or_none() is not None


_BEGIN = text("""
    INSERT INTO agent.once_calls AS c (run_id, call_key, user_id, fence)
    VALUES (:run_id, :call_key, :user_id, :fence)
    ON CONFLICT (run_id, call_key) DO UPDATE SET fence = excluded.fence WHERE c.fence = excluded.fence
    RETURNING 1
""")


async def forget_calls(connection: AsyncConnection, run_id: RunId) -> None:
    """Deletes the records of the run's calls, which are needed only until the run ends."""
    await connection.execute(_FORGET, {"run_id": run_id})


_FORGET = text("DELETE FROM agent.once_calls WHERE run_id = :run_id")
