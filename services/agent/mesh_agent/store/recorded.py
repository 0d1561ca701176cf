"""SQL that reads what graphs in code have recorded. It is written through langgraph-checkpoint-postgres, as a write of
LangGraph in a channel of our own, so that it is fenced, secured and deleted like the checkpoints."""

from typing import Final

from mesh_agent.domain.interrupts import ExecutionId
from mesh_agent.store.checkpoint_database import CheckpointConnection

CHANNEL: Final = "mesh_recorded"


async def recorded(connection: CheckpointConnection, execution_id: ExecutionId) -> list[tuple[str, bytes]]:
    """In no order: the kind of each value, and its bytes, as LangGraph's serializer wrote them."""
    cursor = await connection.execute(_RECORDED, {"execution_id": str(execution_id), "channel": CHANNEL})
    return [(row["type"], row["blob"]) for row in await cursor.fetchall()]


_RECORDED: Final = """
    SELECT type, blob FROM agent.checkpoint_writes
    WHERE thread_id = %(execution_id)s AND channel = %(channel)s
"""
