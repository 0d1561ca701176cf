"""SQL for reading, cancelling and ending runs. `starts` creates them."""

from collections.abc import Sequence
from typing import Final

from asyncpg import Record
from mesh_common.database.statements import Statement, to_json
from mesh_common.ids import OrganisationId, RunId, ThreadId, UserId

from mesh_agent.domain.attempts import Claim, Outcome
from mesh_agent.domain.interrupts import InterruptedRun
from mesh_agent.domain.runs import FollowedRun, Run, RunError, RunStatus, Usage
from mesh_agent.plans.plan import DEFAULT_ASSISTANT
from mesh_agent.store import Connection
from mesh_agent.store.messages import part_of

RUN_COLUMNS: Final = """
    runs.id, runs.thread_id, runs.status, runs.attempt, runs.model, runs.created_at, runs.started_at, runs.ended_at,
    runs.finish_reason, runs.input_tokens, runs.output_tokens, runs.cost_micro_usd, runs.error_reason,
    runs.error_detail, runs.error_is_retryable, runs.metadata, runs.resumes_run_id, runs.assistant,
    runs.assistant_version, runs.agent_usage
"""


async def run_by_id_or_key(
    connection: Connection, user_id: UserId, run_id: RunId, key: str | None
) -> tuple[RunId, ThreadId, bytes] | None:
    """The run that conflicts with a new one: its id, its thread and the hash of the request that created it."""
    statement = _BY_ID if key is None else _BY_ID_OR_KEY
    row = await statement.row(connection, {"user_id": user_id, "run_id": run_id, "key": key})
    return (RunId(row["id"]), ThreadId(row["thread_id"]), row["request_hash"]) if row else None


_CONFLICTING: Final = """
    SELECT id, thread_id, request_hash FROM agent.runs WHERE user_id = :user_id AND {condition} LIMIT 1
"""
_BY_ID = Statement("agent.run_by_id", _CONFLICTING.format(condition="id = :run_id"))
_BY_ID_OR_KEY = Statement(
    "agent.run_by_id_or_key", _CONFLICTING.format(condition="(id = :run_id OR idempotency_key = :key)")
)


async def get_run(connection: Connection, user_id: UserId, run_id: RunId) -> Run | None:
    row = await _GET.row(connection, {"run_id": run_id, "user_id": user_id})
    return run_of(row) if row else None


_ONE: Final = "SELECT {run} FROM agent.runs WHERE id = :run_id AND user_id = :user_id"
_GET = Statement("agent.get_run", _ONE.format(run=RUN_COLUMNS))


async def list_runs(
    connection: Connection,
    user_id: UserId,
    thread_id: ThreadId,
    *,
    status: RunStatus | None,
    limit: int,
    before: int | None,
) -> Sequence[tuple[Run, int]]:
    """Newest first, each with its position. All statuses if `status` is None."""
    statement = _LISTS[status is not None, before is not None]
    parameters = {"user_id": user_id, "thread_id": thread_id, "status": status, "limit": limit, "before": before}
    return [(run_of(row), row["position"]) for row in await statement.rows(connection, parameters)]


_LIST: Final = """
    SELECT {run}, runs.position FROM agent.runs
    WHERE thread_id = :thread_id AND user_id = :user_id {conditions}
    ORDER BY position DESC LIMIT :limit
"""
_STATUS: Final = "AND status = :status"
_BEFORE: Final = "AND position < :before"
# By (with a status, with a position).
_LISTS: Final = {
    (False, False): Statement("agent.list_runs", _LIST.format(run=RUN_COLUMNS, conditions="")),
    (False, True): Statement("agent.list_runs_before", _LIST.format(run=RUN_COLUMNS, conditions=_BEFORE)),
    (True, False): Statement("agent.list_runs_by_status", _LIST.format(run=RUN_COLUMNS, conditions=_STATUS)),
    (True, True): Statement(
        "agent.list_runs_by_status_before", _LIST.format(run=RUN_COLUMNS, conditions=f"{_STATUS} {_BEFORE}")
    ),
}


async def is_there(connection: Connection, run_id: RunId) -> bool:
    """Whether the run exists: False if its thread was deleted."""
    return await _IS_THERE.row(connection, {"run_id": run_id}) is not None


_IS_THERE = Statement("agent.is_run_there", "SELECT 1 FROM agent.runs WHERE id = :run_id")


async def followed_run(connection: Connection, user_id: UserId, run_id: RunId) -> FollowedRun | None:
    row = await _FOLLOWED.row(connection, {"run_id": run_id, "user_id": user_id})
    if row is None:
        return None
    is_ended = RunStatus(row["status"]).is_ended
    return FollowedRun(ThreadId(row["thread_id"]), is_ended, row["frames"], row["owner"], row["owner_address"])


# An expired lease has no owner: the former owner may no longer exist, and its address may belong to another.
_FOLLOWED = Statement(
    "agent.followed_run",
    """
    SELECT runs.thread_id, runs.status, runs.frames, leases.owner, leases.owner_address
    FROM agent.runs
    LEFT JOIN agent.leases ON leases.run_id = runs.id AND leases.expires_at > clock_timestamp()
    WHERE runs.id = :run_id AND runs.user_id = :user_id
""",
)


# What the model said before it asked a person is complete in itself.
_WHOLE: Final = frozenset({RunStatus.SUCCEEDED, RunStatus.INTERRUPTED})


async def end_run(connection: Connection, claim: Claim, outcome: Outcome, frames: bytes) -> bool | None:
    """Stores the end and the answer, if any, and updates the thread, which is locked after the run.

    Returns whether the run was rolled back; its messages are deleted then. None, and nothing is stored, if the run was
    deleted or is in another attempt.
    """
    error, usage = outcome.error, outcome.usage
    is_whole = outcome.status in _WHOLE
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
        "has_answer": outcome.status is RunStatus.SUCCEEDED or bool(outcome.answer),
        "is_partial": not is_whole,
        "forget_generation": outcome.forget_generation,
        "part": part_of(len(outcome.interim)),
        "agent": outcome.agent or None,
        "agent_usage": _agent_usage(outcome),
    }
    row = await _END_RUN.row(connection, parameters)
    return None if row is None else bool(row["is_rolled_back"])


_END_RUN = Statement(
    "agent.end_run",
    """
    WITH ended AS (
        UPDATE agent.runs SET
            status = :status, model = :model, ended_at = clock_timestamp(), finish_reason = :finish_reason,
            input_tokens = :input_tokens, output_tokens = :output_tokens, cost_micro_usd = :cost_micro_usd,
            error_reason = :error_reason, error_detail = :error_detail, error_is_retryable = :error_is_retryable,
            frames = :frames, forget_generation = coalesce(:forget_generation, forget_generation),
            agent_usage = :agent_usage
        WHERE id = :run_id AND status = 'running' AND attempt = :attempt
        RETURNING id, user_id, thread_id, position, is_rolled_back
    ), touched AS (
        UPDATE agent.threads SET updated_at = clock_timestamp() FROM ended WHERE threads.id = ended.thread_id
    ), answer AS (
        INSERT INTO agent.messages (id, user_id, thread_id, run_id, position, part, role, content, is_partial, agent)
        SELECT :message_id, user_id, thread_id, id, position, :part, 'assistant', :answer, :is_partial, :agent
        FROM ended WHERE :has_answer
    )
    SELECT is_rolled_back FROM ended
""",
)


async def input_and_frames(
    connection: Connection, user_id: UserId, run_id: RunId
) -> tuple[str, str, str, list[bytes]] | None:
    """A succeeded run's input, answer, model and frames; None if the run was deleted.

    The input is that of its execution, and the frames are those of all runs of the execution, oldest first.
    """
    row = await _INPUT_AND_FRAMES.row(connection, {"run_id": run_id, "user_id": user_id})
    return (row["input"], row["answer"], row["model"] or "", row["frames"]) if row else None


# An execution has the id of its first run, which has the user's message.
_INPUT_AND_FRAMES = Statement(
    "agent.input_and_frames",
    """
    SELECT question.content AS input, answer.content AS answer, runs.model,
           ARRAY(SELECT part.frames FROM agent.runs part
                 WHERE part.thread_id = runs.thread_id AND part.position <= runs.position AND part.frames IS NOT NULL
                   AND coalesce(part.execution_id, part.id) = coalesce(runs.execution_id, runs.id)
                   AND part.position >= question.position
                 ORDER BY part.position) AS frames
    FROM agent.runs
    JOIN agent.messages question
      ON question.run_id = coalesce(runs.execution_id, runs.id) AND question.role = 'user'
    JOIN agent.messages answer ON answer.run_id = runs.id AND answer.role = 'assistant'
    WHERE runs.id = :run_id AND runs.user_id = :user_id AND runs.status = 'succeeded'
""",
)


async def interrupted_run(connection: Connection, user_id: UserId, run_id: RunId) -> InterruptedRun | None:
    """The user's run, interrupted or not."""
    row = await _INTERRUPTED.row(connection, {"run_id": run_id, "user_id": user_id})
    if row is None:
        return None
    is_interrupted = row["status"] == RunStatus.INTERRUPTED
    return InterruptedRun(
        run_id,
        ThreadId(row["thread_id"]),
        is_interrupted,
        row["execution_id"],
        row["plan_hash"],
        row["metadata"],
        row["assistant"] or DEFAULT_ASSISTANT,
        row["assistant_id"],
    )


_INTERRUPTED = Statement(
    "agent.interrupted_run",
    """
    SELECT thread_id, status, coalesce(execution_id, id) AS execution_id, plan_hash, metadata, assistant, assistant_id
    FROM agent.runs WHERE id = :run_id AND user_id = :user_id
""",
)


async def owner_of(connection: Connection, organisation_id: OrganisationId, run_id: RunId) -> UserId | None:
    """The owner of a run of the organisation. Needs the worker role."""
    row = await _OWNER_OF.row(connection, {"run_id": run_id, "organisation_id": organisation_id})
    return UserId(row["user_id"]) if row else None


_OWNER_OF = Statement(
    "agent.owner_of",
    "SELECT user_id FROM agent.runs WHERE id = :run_id AND coalesce(org_id, user_id) = :organisation_id",
)


def _agent_usage(outcome: Outcome) -> str | None:
    """As in the row: lists of input tokens, output tokens and cost, by agent."""
    if not outcome.billed_by_agent:
        return None
    return to_json(
        {
            name: [usage.input_tokens, usage.output_tokens, usage.cost_micro_usd]
            for name, usage in outcome.billed_by_agent.items()
        }
    )


def run_of(row: Record) -> Run:
    usage = (
        None if row["input_tokens"] is None else Usage(row["input_tokens"], row["output_tokens"], row["cost_micro_usd"])
    )
    error = (
        None
        if row["error_reason"] is None
        else RunError(row["error_reason"], row["error_detail"], is_retryable=row["error_is_retryable"])
    )
    return Run(
        id=RunId(row["id"]),
        thread_id=ThreadId(row["thread_id"]),
        status=RunStatus(row["status"]),
        attempt=row["attempt"],
        model=row["model"] or "",
        created_at=row["created_at"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        usage=usage,
        error=error,
        metadata=row["metadata"],
        finish_reason=row["finish_reason"],
        resumes_run_id=RunId(row["resumes_run_id"]) if row["resumes_run_id"] else None,
        assistant=row["assistant"] or DEFAULT_ASSISTANT,
        assistant_version=row["assistant_version"] or "",
        usage_by_agent={name: Usage(*used) for name, used in (row["agent_usage"] or {}).items()},
    )
