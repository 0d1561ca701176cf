"""SQL for reading, cancelling and ending runs. `starts` creates them."""

from collections.abc import Sequence
from typing import Any

from mesh_common.database.statements import Statement
from mesh_common.ids import RunId, ThreadId, UserId
from sqlalchemy import Row, exists, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mesh_agent.domain import Claim, FollowedRun, Outcome, Run, RunError, RunStatus, Usage
from mesh_agent.tables import leases, runs

_RUN = (
    runs.c.id,
    runs.c.thread_id,
    runs.c.status,
    runs.c.attempt,
    runs.c.model,
    runs.c.created_at,
    runs.c.started_at,
    runs.c.ended_at,
    runs.c.finish_reason,
    runs.c.input_tokens,
    runs.c.output_tokens,
    runs.c.cost_micro_usd,
    runs.c.error_reason,
    runs.c.error_detail,
    runs.c.error_is_retryable,
    runs.c.metadata,
)
_UNENDED = (RunStatus.PENDING, RunStatus.RUNNING)


async def run_by_id_or_key(
    connection: AsyncConnection, user_id: UserId, run_id: RunId, key: str | None
) -> tuple[RunId, ThreadId, bytes] | None:
    """The run that conflicts with a new one: its id, its thread and the hash of the request that created it."""
    same = (runs.c.id == run_id) if key is None else (runs.c.id == run_id) | (runs.c.idempotency_key == key)
    statement = select(runs.c.id, runs.c.thread_id, runs.c.request_hash).where(runs.c.user_id == user_id, same)
    row = (await connection.execute(statement.limit(1))).one_or_none()
    return (RunId(row.id), ThreadId(row.thread_id), bytes(row.request_hash)) if row else None


async def is_thread_busy(connection: AsyncConnection, thread_id: ThreadId, *, besides: RunId) -> bool:
    """Whether the thread has an unended run other than `besides`. Exact while the thread's row is locked."""
    busy = (runs.c.thread_id == thread_id, runs.c.status.in_(_UNENDED), runs.c.id != besides)
    statement = select(exists().where(*busy))
    return bool((await connection.execute(statement)).scalar_one())


async def count_by_status(connection: AsyncConnection, statuses: Sequence[RunStatus] = _UNENDED) -> dict[str, int]:
    """Counts the runs of all users. Needs the worker role."""
    statement = select(runs.c.status, func.count()).where(runs.c.status.in_(statuses)).group_by(runs.c.status)
    counts: dict[str, int] = dict((await connection.execute(statement)).tuples().all())
    return {status: counts.get(status, 0) for status in statuses}


async def count_pending(connection: AsyncConnection, user_id: UserId, *, besides_thread: ThreadId | None = None) -> int:
    """The number of the user's pending runs, except those of `besides_thread`."""
    statement = select(func.count()).where(runs.c.user_id == user_id, runs.c.status == RunStatus.PENDING)
    if besides_thread is not None:
        statement = statement.where(runs.c.thread_id != besides_thread)
    return int((await connection.execute(statement)).scalar_one())


async def get_run(connection: AsyncConnection, user_id: UserId, run_id: RunId) -> Run | None:
    statement = select(*_RUN).where(runs.c.id == run_id, runs.c.user_id == user_id)
    row = (await connection.execute(statement)).one_or_none()
    return _run(row) if row else None


async def list_runs(
    connection: AsyncConnection,
    user_id: UserId,
    thread_id: ThreadId,
    *,
    status: RunStatus | None,
    limit: int,
    before: int | None,
) -> Sequence[tuple[Run, int]]:
    """Newest first, each with its position. All statuses if `status` is None."""
    statement = select(*_RUN, runs.c.position).where(runs.c.thread_id == thread_id, runs.c.user_id == user_id)
    if status is not None:
        statement = statement.where(runs.c.status == status)
    if before is not None:
        statement = statement.where(runs.c.position < before)
    ordered = statement.order_by(runs.c.position.desc()).limit(limit)
    return [(_run(row), row.position) for row in await connection.execute(ordered)]


async def is_there(connection: AsyncConnection, run_id: RunId) -> bool:
    """Whether the run exists: False if its thread was deleted."""
    return bool((await connection.execute(select(exists().where(runs.c.id == run_id)))).scalar_one())


async def followed_run(connection: AsyncConnection, user_id: UserId, run_id: RunId) -> FollowedRun | None:
    # An expired lease has no owner: the former owner may no longer exist, and its address may belong to another.
    held = (leases.c.run_id == runs.c.id) & (leases.c.expires_at > func.clock_timestamp())
    statement = (
        select(runs.c.thread_id, runs.c.status, runs.c.frames, leases.c.owner, leases.c.owner_address)
        .select_from(runs.outerjoin(leases, held))
        .where(runs.c.id == run_id, runs.c.user_id == user_id)
    )
    row = (await connection.execute(statement)).one_or_none()
    if row is None:
        return None
    frames = None if row.frames is None else bytes(row.frames)
    is_ended = RunStatus(row.status).is_ended
    return FollowedRun(ThreadId(row.thread_id), is_ended, frames, row.owner, row.owner_address)


async def request_cancel(connection: AsyncConnection, user_id: UserId, run_ids: Sequence[RunId]) -> None:
    """Marks the runs for cancellation. The replica that executes such a run, or claims it next, ends it."""
    statement = update(runs).where(runs.c.id.in_(run_ids), runs.c.user_id == user_id, runs.c.status.in_(_UNENDED))
    await connection.execute(statement.values(is_cancel_requested=True))


async def lock_unended_before(connection: AsyncConnection, user_id: UserId, run_id: RunId) -> Sequence[Run]:
    """The unended runs before this one on its thread, oldest first. They cannot end before this transaction does.

    Locks only rows of runs, oldest first, as every transaction does that locks several.
    """
    mine = select(runs.c.thread_id, runs.c.position).where(runs.c.id == run_id, runs.c.user_id == user_id).subquery()
    statement = (
        select(*_RUN)
        .join(mine, (runs.c.thread_id == mine.c.thread_id) & (runs.c.position < mine.c.position))
        .where(runs.c.status.in_(_UNENDED))
        .order_by(runs.c.position)
        .with_for_update(of=runs)
    )
    return [_run(row) for row in await connection.execute(statement)]


async def cancel_unclaimed(connection: AsyncConnection, user_id: UserId, run_id: RunId, *, frames: bytes) -> bool:
    """Ends a run that was never claimed, as its first attempt. False if it has been claimed."""
    unclaimed = (runs.c.user_id == user_id, runs.c.status == RunStatus.PENDING, runs.c.attempt == 0)
    statement = update(runs).where(runs.c.id == run_id, *unclaimed)
    ended = statement.values(status=RunStatus.CANCELLED, attempt=1, ended_at=func.clock_timestamp(), frames=frames)
    return (await connection.execute(ended)).rowcount == 1


async def end_run(connection: AsyncConnection, claim: Claim, outcome: Outcome, frames: bytes) -> bool:
    """Stores the end and the answer, if any, and updates the thread, which is locked after the run.

    False, and nothing is stored, if the run was deleted or is in another attempt.
    """
    error, usage = outcome.error, outcome.usage
    is_whole = outcome.status is RunStatus.SUCCEEDED
    parameters = {
        "run_id": claim.run_id,
        "attempt": claim.attempt,
        "status": outcome.status,
        "model": outcome.model,
        "finish_reason": outcome.finish_reason,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cost_micro_usd": usage.cost_micro_usd,
        "error_reason": error.reason if error else None,
        "error_detail": error.detail if error else None,
        "error_is_retryable": error.is_retryable if error else None,
        "frames": frames,
        "message_id": outcome.message_id,
        "answer": outcome.answer,
        "has_answer": is_whole or bool(outcome.answer),
        "is_partial": not is_whole,
    }
    return await _END_RUN.row(connection, parameters) is not None


_END_RUN = Statement(
    "agent.end_run",
    """
    WITH ended AS (
        UPDATE agent.runs SET
            status = :status, model = :model, ended_at = clock_timestamp(), finish_reason = :finish_reason,
            input_tokens = :input_tokens, output_tokens = :output_tokens, cost_micro_usd = :cost_micro_usd,
            error_reason = :error_reason, error_detail = :error_detail, error_is_retryable = :error_is_retryable,
            frames = :frames
        WHERE id = :run_id AND status = 'running' AND attempt = :attempt
        RETURNING id, user_id, thread_id, position
    ), touched AS (
        UPDATE agent.threads SET updated_at = clock_timestamp() FROM ended WHERE threads.id = ended.thread_id
    ), answer AS (
        INSERT INTO agent.messages (id, user_id, thread_id, run_id, position, part, role, content, is_partial)
        SELECT :message_id, user_id, thread_id, id, position, 1, 'assistant', :answer, :is_partial
        FROM ended WHERE :has_answer
    )
    SELECT id FROM ended
""",
)


async def input_and_frames(
    connection: AsyncConnection, user_id: UserId, run_id: RunId
) -> tuple[str, str, str, bytes | None] | None:
    """A succeeded run's input, answer, model and frames; None if the run was deleted."""
    row = await _INPUT_AND_FRAMES.row(connection, {"run_id": run_id, "user_id": user_id})
    return (row["input"], row["answer"], row["model"] or "", row["frames"]) if row else None


_INPUT_AND_FRAMES = Statement(
    "agent.input_and_frames",
    """
    SELECT question.content AS input, answer.content AS answer, runs.model, runs.frames
    FROM agent.runs
    JOIN agent.messages question ON question.run_id = runs.id AND question.role = 'user'
    JOIN agent.messages answer ON answer.run_id = runs.id AND answer.role = 'assistant'
    WHERE runs.id = :run_id AND runs.user_id = :user_id AND runs.status = 'succeeded'
""",
)


def _run(row: Row[Any]) -> Run:
    usage = None if row.input_tokens is None else Usage(row.input_tokens, row.output_tokens, row.cost_micro_usd)
    error = (
        None
        if row.error_reason is None
        else RunError(row.error_reason, row.error_detail, is_retryable=row.error_is_retryable)
    )
    return Run(
        id=RunId(row.id),
        thread_id=ThreadId(row.thread_id),
        status=RunStatus(row.status),
        attempt=row.attempt,
        model=row.model or "",
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        usage=usage,
        error=error,
        metadata=row.metadata,
        finish_reason=row.finish_reason,
    )
