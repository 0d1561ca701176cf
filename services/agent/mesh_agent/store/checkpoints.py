"""Deletes what an execution stores until its run ends: checkpoints, and records of calls that may run only once.

langgraph-checkpoint-postgres, which writes the checkpoints, cannot delete by our threads, nor in the transaction that
deletes our own rows.
"""

from collections.abc import Iterable
from uuid import UUID

from mesh_common.database.statements import Statement
from mesh_common.ids import RunId, ThreadId

from mesh_agent.domain.attempts import Claim
from mesh_agent.store import Connection


async def forget_run(connection: Connection, claim: Claim) -> None:
    """Deletes the run's checkpoints and records of calls, which exist only until the run ends."""
    await forget_executions(connection, [claim.execution_id])
    await forget_calls(connection, claim)


async def forget_calls(connection: Connection, claim: Claim) -> None:
    """Deletes the run's records of calls: each has a result in the checkpoints of a run that ends interrupted."""
    await _FORGET_CALLS.count(connection, {"run_id": claim.run_id})


async def forget_executions(connection: Connection, execution_ids: Iterable[UUID]) -> None:
    """Deletes the checkpoints of executions that no run will resume."""
    await _FORGET_EXECUTIONS.count(connection, {"execution_ids": sorted({str(id_) for id_ in execution_ids})})


async def forget_execution_of(connection: Connection, run_id: RunId) -> None:
    """As `forget_executions`, for the execution of a run that never began."""
    await _FORGET_EXECUTION_OF.count(connection, {"run_id": run_id})


async def forget_thread(connection: Connection, thread_id: ThreadId) -> None:
    """Deletes the checkpoints of all runs of the thread."""
    await _FORGET_THREAD.count(connection, {"thread_id": thread_id})


# LangGraph's `thread_id` is an execution's id here.
_FORGET = """
    WITH deleted AS ({executions}),
    blobs AS (DELETE FROM agent.checkpoint_blobs USING deleted WHERE checkpoint_blobs.thread_id = deleted.id),
    writes AS (DELETE FROM agent.checkpoint_writes USING deleted WHERE checkpoint_writes.thread_id = deleted.id)
    DELETE FROM agent.checkpoints USING deleted WHERE checkpoints.thread_id = deleted.id
"""
_FORGET_EXECUTIONS = Statement(
    "agent.forget_run", _FORGET.format(executions="SELECT unnest(:execution_ids::text[]) AS id")
)
_FORGET_EXECUTION_OF = Statement(
    "agent.forget_execution_of",
    _FORGET.format(executions="SELECT coalesce(execution_id, id)::text AS id FROM agent.runs WHERE id = :run_id"),
)
_FORGET_THREAD = Statement(
    "agent.forget_thread",
    _FORGET.format(
        executions="SELECT coalesce(execution_id, id)::text AS id FROM agent.runs WHERE thread_id = :thread_id"
    ),
)
_FORGET_CALLS = Statement("agent.forget_calls", "DELETE FROM agent.once_calls WHERE run_id = :run_id")
