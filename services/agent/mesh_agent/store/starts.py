"""SQL for starting runs: stores a run with its message, and claims it in the same statement if the thread is free."""

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from mesh_common.database.statements import Statement, to_json
from mesh_common.ids import ThreadId, new_id
from mesh_common.process.telemetry import carried_context
from mesh_common.subject import Subject

from mesh_agent.domain.attempts import Claim
from mesh_agent.domain.interrupts import InterruptedRun
from mesh_agent.domain.runs import RunInput
from mesh_agent.plans.plan import DEFAULT_ASSISTANT
from mesh_agent.store import Connection, history
from mesh_agent.store.claims import Owner


@dataclass(frozen=True, slots=True)
class Claimant:
    """The replica that may claim the run at once, and how long its lease lasts without a heartbeat."""

    owner: Owner
    ttl_s: float


@dataclass(frozen=True, slots=True)
class PlanOfRun:
    """The plan's hash, and what it was resolved from. `assistant_id` is of the API's assistants only."""

    hash: bytes
    assistant: str = DEFAULT_ASSISTANT
    assistant_version: str = ""
    assistant_id: UUID | None = None
    remembers: bool = True


_NO_CLAIMANT: Final = Claimant(Owner("", ""), 0.0)


@dataclass(frozen=True, slots=True)
class InsertedRun:
    """`is_new` is False, and nothing was stored, if a run with this id or idempotency key exists. `claim` is None for a
    pending run. `is_awaited`: an interrupted run of the thread waits for decisions."""

    is_new: bool
    claim: Claim | None
    is_awaited: bool = False


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to be stored. `resumed` is the interrupted run that it resumes, if it does."""

    input: RunInput
    request_hash: bytes
    plan: PlanOfRun | None = None
    resumed: InterruptedRun | None = None


async def insert_run(
    connection: Connection, subject: Subject, thread_id: ThreadId, run: NewRun, claimant: Claimant | None = None
) -> InsertedRun | None:
    """Stores a run with its message, on a thread whose row this transaction has locked or created.

    If the thread has no unended run and no lease, the claimant claims the run. Nobody else can claim it then, because
    the run is invisible before the commit. Otherwise it is pending. None if the user has no such thread.

    A run that resumes another one has its assistant, and an empty message, which no list shows: the claim of the
    previous release, which may run next to this one, finds only runs that have a message.
    """
    trace_context = carried_context()
    parameters = {
        "user_id": subject.user_id,
        "thread_id": thread_id,
        "trace_context": to_json(trace_context),
        **_of_run(run),
        **_of_claimant(claimant),
    }
    row = await (_INSERT_RESUMING if run.resumed else _INSERT).row(connection, parameters)
    if row is None:
        return None
    position, fence, said, is_awaited = row
    if position is None:
        return InsertedRun(is_new=False, claim=None)
    if fence is None:
        return InsertedRun(is_new=True, claim=None, is_awaited=is_awaited)
    claim = Claim(
        run.input.run_id,
        thread_id,
        subject.without_grants(),
        position,
        attempt=1,
        fence=fence,
        message=run.input.message,
        model=run.input.model,
        trace_context=trace_context,
        # If something waits, its rejection adds a note to the history.
        history=None if is_awaited else history.said(said),
        plan_hash=run.plan.hash if run.plan else None,
        resumed_execution=run.resumed.execution_id if run.resumed else None,
    )
    return InsertedRun(is_new=True, claim=claim, is_awaited=is_awaited)


def _of_run(run: NewRun) -> dict[str, Any]:
    given, plan = run.input, run.plan
    return {
        "id": given.run_id,
        "model": given.model,
        "metadata": to_json(given.metadata),
        "idempotency_key": given.idempotency_key,
        "request_hash": run.request_hash,
        "plan_hash": plan and plan.hash,
        "assistant": plan and plan.assistant,
        "assistant_version": plan and plan.assistant_version,
        "assistant_id": plan and plan.assistant_id,
        "is_unremembered": plan is not None and not plan.remembers,
        "message_id": new_id(),
        "content": given.message,
        "resumes_run_id": run.resumed.id if run.resumed else None,
    }


def _of_claimant(claimant: Claimant | None) -> dict[str, Any]:
    by = claimant or _NO_CLAIMANT
    return {
        "is_to_be_claimed": claimant is not None,
        "owner": by.owner.name,
        "address": by.owner.address,
        "ttl_s": by.ttl_s,
    }


# Must be a separate statement after the one that locks the thread. Only then does its snapshot contain all runs that
# were started on the thread before. It looks for the run first: ON CONFLICT would wait for a transaction that ends the
# same run, and that one waits for the thread.
_SQL: Final = """
    WITH thread AS MATERIALIZED (
        SELECT id, :is_to_be_claimed::boolean
               AND NOT EXISTS (SELECT 1 FROM agent.leases WHERE thread_id = :thread_id)
               AND NOT EXISTS (SELECT 1 FROM agent.runs
                               WHERE thread_id = :thread_id AND status IN ('pending', 'running')) AS is_free
        FROM agent.threads WHERE id = :thread_id AND user_id = :user_id
    ), new_run AS (
        INSERT INTO agent.runs (id, user_id, thread_id, status, attempt, started_at, model, metadata, idempotency_key,
                                request_hash, plan_hash, trace_context{columns})
        SELECT :id, :user_id, thread.id,
               CASE WHEN is_free THEN 'running' ELSE 'pending' END,
               CASE WHEN is_free THEN 1 ELSE 0 END,
               CASE WHEN is_free THEN clock_timestamp() END,
               :model, :metadata, :idempotency_key, :request_hash, :plan_hash, :trace_context{values}
        FROM thread{source}
        WHERE NOT EXISTS (SELECT 1 FROM agent.runs WHERE id = :id)
          AND NOT EXISTS (SELECT 1 FROM agent.runs WHERE user_id = :user_id AND idempotency_key = :idempotency_key)
        ON CONFLICT DO NOTHING
        RETURNING id, user_id, thread_id, position
    ), leased AS (
        INSERT INTO agent.leases (thread_id, user_id, run_id, owner, owner_address, fence, expires_at)
        SELECT new_run.thread_id, new_run.user_id, new_run.id, :owner, :address, nextval('agent.fences'),
               clock_timestamp() + make_interval(secs => :ttl_s)
        FROM new_run, thread WHERE is_free
        RETURNING fence
    ), message AS (
        INSERT INTO agent.messages (id, user_id, thread_id, run_id, position, part, role, content)
        SELECT :message_id, user_id, thread_id, id, position, 0, 'user', :content FROM new_run
    )
    SELECT r.position, fence, CASE WHEN is_free THEN {history} END,
           EXISTS (SELECT 1 FROM agent.interrupts WHERE thread_id = :thread_id AND decision IS NULL)
    FROM thread LEFT JOIN new_run r ON true LEFT JOIN leased ON true
"""
_INSERT: Final = Statement(
    "agent.insert_run",
    _SQL.format(
        history=history.OF_CLAIMED,
        columns=", assistant, assistant_version, assistant_id, is_unremembered",
        values=", :assistant, :assistant_version, :assistant_id::uuid, :is_unremembered",
        source="",
    ),
)
_INSERT_RESUMING: Final = Statement(
    "agent.insert_resuming_run",
    _SQL.format(
        history=history.OF_CLAIMED,
        columns=", execution_id, resumes_run_id, forget_generation, assistant, assistant_version, assistant_id, "
        "is_unremembered",
        values=", coalesce(resumed.execution_id, resumed.id), resumed.id, resumed.forget_generation, "
        "resumed.assistant, resumed.assistant_version, resumed.assistant_id, resumed.is_unremembered",
        source=" JOIN agent.runs resumed ON resumed.id = :resumes_run_id",
    ),
)
