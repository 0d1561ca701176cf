"""SQL about runs that have not ended: counts, locks and cancellations."""

from collections.abc import Collection, Sequence
from typing import Final

from mesh_common.database.statements import Statement
from mesh_common.ids import RunId, ThreadId, UserId

from mesh_agent.domain.runs import Run, RunStatus
from mesh_agent.store import Connection
from mesh_agent.store.claims import Owner
from mesh_agent.store.runs import RUN_COLUMNS, run_of


async def is_thread_busy(connection: Connection, thread_id: ThreadId, *, besides: RunId) -> bool:
    """Whether the thread has an unended run other than `besides`. Exact while the thread's row is locked."""
    return bool(await _OTHER_UNENDED.rows(connection, {"thread_id": thread_id, "besides": besides}))


_OTHER_UNENDED = Statement(
    "agent.is_thread_busy",
    """
    SELECT 1 FROM agent.runs WHERE thread_id = :thread_id AND status IN ('pending', 'running') AND id <> :besides
    LIMIT 1
""",
)


async def count_by_status(connection: Connection) -> dict[str, int]:
    """Counts the unended runs of all users. Needs the worker role."""
    counts = {row["status"]: row["runs"] for row in await _COUNT_BY_STATUS.rows(connection, {})}
    return {status: counts.get(status, 0) for status in (RunStatus.PENDING, RunStatus.RUNNING)}


_COUNT_BY_STATUS = Statement(
    "agent.count_by_status",
    "SELECT status, count(*) AS runs FROM agent.runs WHERE status IN ('pending', 'running') GROUP BY status",
)


async def count_pending(connection: Connection, user_id: UserId, *, besides_thread: ThreadId | None = None) -> int:
    """The number of the user's pending runs, except those of `besides_thread`."""
    statement = COUNT_PENDING if besides_thread is None else COUNT_PENDING_ELSEWHERE
    (row,) = await statement.rows(connection, {"user_id": user_id, "besides_thread": besides_thread})
    return int(row["runs"])


_PENDING: Final = "SELECT count(*) AS runs FROM agent.runs WHERE user_id = :user_id AND status = 'pending' {condition}"
COUNT_PENDING = Statement("agent.count_pending", _PENDING.format(condition=""))
COUNT_PENDING_ELSEWHERE = Statement(
    "agent.count_pending_elsewhere", _PENDING.format(condition="AND thread_id <> :besides_thread")
)


async def ids_waiting(connection: Connection, owner: Owner, run_ids: Collection[RunId]) -> set[RunId]:
    """Those of the runs that have not ended and that no replica but `owner` executes. Needs the worker role."""
    parameters = {"run_ids": list(run_ids), "owner": owner.name, "address": owner.address}
    return {RunId(row["id"]) for row in await _IDS_WAITING.rows(connection, parameters)}


# A predecessor at the same address counts as this replica, as in `Executor.is_mine`.
_IDS_WAITING = Statement(
    "agent.ids_waiting",
    """
    SELECT runs.id FROM agent.runs
    LEFT JOIN agent.leases ON leases.run_id = runs.id AND leases.expires_at > clock_timestamp()
    WHERE runs.id = ANY(:run_ids) AND runs.status IN ('pending', 'running')
      AND (leases.run_id IS NULL OR leases.owner = :owner OR leases.owner_address = :address)
""",
)


async def request_cancel(connection: Connection, user_id: UserId, run_ids: Sequence[RunId]) -> None:
    """Marks the runs for cancellation. The replica that executes such a run, or claims it next, ends it."""
    await _REQUEST_CANCEL.count(connection, {"user_id": user_id, "run_ids": list(run_ids)})


_REQUEST_CANCEL = Statement(
    "agent.request_cancel",
    """
    UPDATE agent.runs SET is_cancel_requested = true
    WHERE id = ANY(:run_ids) AND user_id = :user_id AND status IN ('pending', 'running')
""",
)


async def lock_unended_before(connection: Connection, user_id: UserId, run_id: RunId) -> Sequence[Run]:
    """The unended runs before this one on its thread, oldest first. They cannot end before this transaction does.

    Locks only rows of runs, oldest first, as every transaction does that locks several.
    """
    rows = await _LOCK_UNENDED_BEFORE.rows(connection, {"run_id": run_id, "user_id": user_id})
    return [run_of(row) for row in rows]


_UNENDED_BEFORE: Final = """
    SELECT {run}
    FROM agent.runs
    JOIN (SELECT thread_id, position FROM agent.runs WHERE id = :run_id AND user_id = :user_id) mine
      ON runs.thread_id = mine.thread_id AND runs.position < mine.position
    WHERE runs.status IN ('pending', 'running')
    ORDER BY runs.position
    FOR UPDATE OF runs
"""
_LOCK_UNENDED_BEFORE = Statement("agent.lock_unended_before", _UNENDED_BEFORE.format(run=RUN_COLUMNS))


async def cancel_unclaimed(connection: Connection, user_id: UserId, run_id: RunId, *, frames: bytes) -> bool:
    """Ends a run that was never claimed, as its first attempt. False if it has been claimed."""
    parameters = {"run_id": run_id, "user_id": user_id, "frames": frames}
    return await _CANCEL_UNCLAIMED.count(connection, parameters) == 1


_CANCEL_UNCLAIMED = Statement(
    "agent.cancel_unclaimed",
    """
    UPDATE agent.runs SET status = 'cancelled', attempt = 1, ended_at = clock_timestamp(), frames = :frames
    WHERE id = :run_id AND user_id = :user_id AND status = 'pending' AND attempt = 0
""",
)
