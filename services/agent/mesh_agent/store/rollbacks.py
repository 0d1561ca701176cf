"""SQL of runs that a later run of their thread rolls back.

A trigger deletes the messages of such a run's execution when the run ends (migration `around_runs`), whichever replica
ends it.
"""

from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

from mesh_common.database.statements import Statement
from mesh_common.ids import RunId, ThreadId, UserId

from mesh_agent.store import Connection


async def mark(connection: Connection, user_id: UserId, run_ids: Sequence[RunId]) -> None:
    """Marks unended runs, whose rows are locked: their messages are deleted when they end."""
    await _MARK.count(connection, {"user_id": user_id, "run_ids": list(run_ids)})


async def mark_executions(connection: Connection, thread_id: ThreadId, execution_ids: Iterable[UUID]) -> None:
    """Deletes the messages of executions of which every run has ended, on a thread whose row is locked."""
    parameters = {"thread_id": thread_id, "execution_ids": sorted(set(execution_ids))}
    await _MARK_EXECUTIONS.count(connection, parameters)


_MARK: Final = Statement(
    "agent.mark_rolled_back",
    """
    UPDATE agent.runs SET is_rolled_back = true
    WHERE id = ANY(:run_ids) AND user_id = :user_id AND status IN ('pending', 'running')
""",
)
_MARK_EXECUTIONS: Final = Statement(
    "agent.mark_executions_rolled_back",
    """
    UPDATE agent.runs SET is_rolled_back = true
    WHERE thread_id = :thread_id AND coalesce(execution_id, id) = ANY(:execution_ids)
""",
)


async def frames_of_execution(connection: Connection, run_id: RunId) -> Sequence[tuple[RunId, bytes]]:
    """The stored events of the run and of the runs that it continues, oldest first."""
    rows = await _FRAMES.rows(connection, {"run_id": run_id})
    return [(RunId(row["id"]), row["frames"]) for row in rows]


_FRAMES: Final = Statement(
    "agent.frames_of_execution",
    """
    SELECT part.id, part.frames FROM agent.runs
    JOIN agent.runs part ON part.thread_id = runs.thread_id AND part.position <= runs.position
        AND coalesce(part.execution_id, part.id) = coalesce(runs.execution_id, runs.id)
    WHERE runs.id = :run_id AND part.frames IS NOT NULL
    ORDER BY part.position
""",
)


async def has_begun_calls(connection: Connection, run_id: RunId) -> bool:
    """Whether the run, in any attempt, has begun a call that may run only once."""
    return await _HAS_BEGUN.row(connection, {"run_id": run_id}) is not None


_HAS_BEGUN: Final = Statement("agent.has_begun_calls", "SELECT 1 FROM agent.once_calls WHERE run_id = :run_id LIMIT 1")
