"""SQL of what langgraph-checkpoint-postgres wrote: it has no words for deleting by thread, nor beside our own rows."""

from mesh_common.database.statements import Statement
from mesh_common.ids import ThreadId
from sqlalchemy.ext.asyncio import AsyncConnection

from mesh_agent.domain import Claim
from mesh_agent.store.once_calls import forget_calls


async def forget_run(connection: AsyncConnection, claim: Claim) -> None:
    """Checkpoints and records of calls exist only while a run has not ended."""
    await _FORGET_EXECUTION.count(connection, {"execution_id": str(claim.execution_id)})
    await forget_calls(connection, claim.run_id)


async def forget_thread(connection: AsyncConnection, thread_id: ThreadId) -> None:
    """The checkpoints of all of a thread's runs."""
    await _FORGET_THREAD.count(connection, {"thread_id": thread_id})


# What is a thread to LangGraph is an execution here.
_FORGET = """
    WITH gone AS ({executions}),
    blobs AS (DELETE FROM agent.checkpoint_blobs USING gone WHERE checkpoint_blobs.thread_id = gone.id),
    writes AS (DELETE FROM agent.checkpoint_writes USING gone WHERE checkpoint_writes.thread_id = gone.id)
    DELETE FROM agent.checkpoints USING gone WHERE checkpoints.thread_id = gone.id
"""
_FORGET_EXECUTION = Statement("agent.forget_run", _FORGET.format(executions="SELECT :execution_id::text AS id"))
_FORGET_THREAD = Statement(
    "agent.forget_thread",
    _FORGET.format(
        executions="SELECT coalesce(execution_id, id)::text AS id FROM agent.runs WHERE thread_id = :thread_id"
    ),
)
