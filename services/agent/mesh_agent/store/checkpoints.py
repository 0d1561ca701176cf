"""Deletes what an execution stores until its run ends: checkpoints, and records of calls that may run only once.

langgraph-checkpoint-postgres, which writes the checkpoints, cannot delete by our threads, nor in the transaction that
deletes our own rows.
"""

from mesh_common.database.statements import Statement
from mesh_common.ids import ThreadId

from mesh_agent.domain import Claim
from mesh_agent.store import Connection


async def forget_run(connection: Connection, claim: Claim) -> None:
    """Deletes the run's checkpoints and records of calls, which exist only until the run ends."""
    await _FORGET_EXECUTION.count(connection, {"execution_id": str(claim.execution_id)})
    await _FORGET_CALLS.count(connection, {"run_id": claim.run_id})


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
_FORGET_EXECUTION = Statement("agent.forget_run", _FORGET.format(executions="SELECT :execution_id::text AS id"))
_FORGET_THREAD = Statement(
    "agent.forget_thread",
    _FORGET.format(
        executions="SELECT coalesce(execution_id, id)::text AS id FROM agent.runs WHERE thread_id = :thread_id"
    ),
)
_FORGET_CALLS = Statement("agent.forget_calls", "DELETE FROM agent.once_calls WHERE run_id = :run_id")
