"""SQL of what interrupted runs ask and what was decided.

Whoever decides locks the thread's row first: a resume, a new message, and the expiry.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from asyncpg import Record
from mesh_common.database.statements import Statement
from mesh_common.ids import OrganisationId, RunId, ThreadId, UserId

from mesh_agent.domain.attempts import Claim
from mesh_agent.domain.interrupts import (
    Asked,
    DecidedCall,
    Decision,
    DecisionKind,
    Interrupt,
    InterruptDecision,
    InterruptKind,
)
from mesh_agent.store import Connection

_SHOWN: Final = """
    id, run_id, thread_id, kind, call_id, tool, arguments_json, question, answer_schema_json, allowed, created_at,
    expires_at, decision, decided_by, decided_at, value_json, message
"""


async def insert_asked(connection: Connection, claim: Claim, asked: Sequence[Asked]) -> None:
    """Stores what the run asks, in the transaction that ends it."""
    await _INSERT.rows_of_each(connection, [_parameters(claim, one) for one in asked])


def _parameters(claim: Claim, asked: Asked) -> Mapping[str, Any]:
    question, shown = asked.question, asked.interrupt
    return {
        "id": UUID(shown.id),
        "user_id": claim.user_id,
        "thread_id": claim.thread_id,
        "run_id": claim.run_id,
        "execution_id": claim.execution_id,
        "call_key": question.call_key,
        "graph_id": question.graph_id,
        "kind": shown.kind.value,
        "call_id": shown.call_id,
        "tool": shown.tool,
        "arguments_json": shown.arguments_json,
        "question": shown.question,
        "answer_schema_json": shown.answer_schema_json,
        "allowed": [kind.value for kind in shown.allowed],
        "created_at": shown.created_at,
        "expires_at": shown.expires_at,
    }


_INSERT = Statement(
    "agent.insert_interrupts",
    """
    INSERT INTO agent.interrupts (
        id, user_id, thread_id, run_id, execution_id, call_key, graph_id, kind, call_id, tool, arguments_json,
        question, answer_schema_json, allowed, created_at, expires_at)
    VALUES (
        :id, :user_id, :thread_id, :run_id, :execution_id, :call_key, :graph_id, :kind, :call_id, :tool,
        :arguments_json, :question, :answer_schema_json, :allowed, :created_at, :expires_at)
""",
)


async def of_run(connection: Connection, run_id: RunId) -> tuple[Interrupt, ...]:
    """What the run asks, in the order of the calls."""
    return tuple(map(_interrupt, await _OF_RUN.rows(connection, {"run_id": run_id})))


# Their ids are made in the order of the calls, and sort by it.
_ASKED_BY: Final = "SELECT {shown} FROM agent.interrupts WHERE run_id = :run_id ORDER BY id"
_OF_RUN = Statement("agent.interrupts_of_run", _ASKED_BY.format(shown=_SHOWN))


async def decide(
    connection: Connection, run_id: RunId, decisions: Sequence[Decision], *, decided_by: UserId, resumed_by: RunId
) -> int:
    """Stores decisions about calls of the run that wait and have not expired. Returns how many it has stored."""
    each = [
        {
            "run_id": run_id,
            "call_id": decision.call_id,
            "kind": decision.kind.value,
            "value_json": decision.value_json,
            "message": decision.message,
            "decided_by": decided_by,
            "resumed_by": resumed_by,
        }
        for decision in decisions
    ]
    return len(await _DECIDE.rows_of_each(connection, each))


_DECIDE = Statement(
    "agent.decide",
    """
    UPDATE agent.interrupts
    SET decision = :kind, decided_by = :decided_by, decided_at = clock_timestamp(), value_json = :value_json,
        message = :message, resumed_by = :resumed_by
    WHERE run_id = :run_id AND call_id = :call_id AND decision IS NULL AND expires_at > clock_timestamp()
    RETURNING id
""",
)


async def decided_for(connection: Connection, claim: Claim) -> Mapping[str, DecidedCall]:
    """What was decided in the run's execution, by the key of the call. A step of a graph in code may have asked in an
    earlier run of it, and runs again from its start."""
    parameters = {"thread_id": claim.thread_id, "execution_id": claim.execution_id}
    rows = await _DECIDED_FOR.rows(connection, parameters)
    return {row["call_key"]: _decided_call(row) for row in rows}


_DECIDED_FOR = Statement(
    "agent.decided_for",
    """
    SELECT call_key, call_id, tool, arguments_json, decision, value_json, message, graph_id FROM agent.interrupts
    WHERE thread_id = :thread_id AND execution_id = :execution_id AND resumed_by IS NOT NULL
""",
)


@dataclass(frozen=True, slots=True)
class Rejected:
    """One call or question that nobody will decide any more."""

    org_id: UUID | None
    user_id: UserId
    thread_id: ThreadId
    run_id: RunId
    execution_id: UUID
    kind: InterruptKind
    tool: str


async def reject_waiting(connection: Connection, thread_id: ThreadId, *, message: str) -> Sequence[Rejected]:
    """Rejects all that waits on the thread, whose row is locked. `message` says why."""
    rows = await _REJECT_WAITING.rows(connection, {"thread_id": thread_id, "message": message})
    return [_rejected(row) for row in rows]


async def reject_expired(connection: Connection, *, limit: int, message: str) -> Sequence[Rejected]:
    """Rejects what has expired, of at most `limit` threads that nobody has locked. Needs the worker role."""
    rows = await _REJECT_EXPIRED.rows(connection, {"limit": limit, "message": message})
    return [_rejected(row) for row in rows]


_REJECT: Final = """
    {due}
    UPDATE agent.interrupts i SET decision = 'reject', decided_at = clock_timestamp(), message = :message
    {source}
    WHERE i.decision IS NULL AND {condition}
    RETURNING i.org_id, i.user_id, i.thread_id, i.run_id, i.execution_id, i.kind, i.tool
"""
# The lock excludes a resume, a new message and the deletion of the thread. Locked threads are left for the next pass.
_DUE: Final = """
    WITH due AS MATERIALIZED (
        SELECT thread_id FROM agent.interrupts WHERE decision IS NULL AND expires_at <= clock_timestamp()
        ORDER BY expires_at LIMIT :limit
    ), locked AS MATERIALIZED (
        SELECT id FROM agent.threads WHERE id IN (SELECT thread_id FROM due) FOR NO KEY UPDATE SKIP LOCKED
    )
"""
_REJECT_WAITING = Statement(
    "agent.reject_waiting", _REJECT.format(due="", source="", condition="i.thread_id = :thread_id")
)
_REJECT_EXPIRED = Statement(
    "agent.reject_expired",
    _REJECT.format(
        due=_DUE,
        source="FROM locked",
        condition="i.thread_id = locked.id AND i.expires_at <= clock_timestamp()",
    ),
)


async def list_waiting(
    connection: Connection,
    *,
    user_id: UserId | None,
    organisation_id: OrganisationId | None,
    limit: int,
    after: tuple[datetime, UUID] | None,
) -> Sequence[Interrupt]:
    """What waits for a decision, oldest first: the user's, or that of the organisation, which needs the worker role."""
    created_at, id_ = after or (None, None)
    statement = _LISTS[organisation_id is not None, after is not None]
    parameters = {
        "user_id": user_id,
        "organisation_id": organisation_id,
        "limit": limit,
        "created_at": created_at,
        "id": id_,
    }
    return [_interrupt(row) for row in await statement.rows(connection, parameters)]


_LIST: Final = """
    SELECT {shown} FROM agent.interrupts
    WHERE {owner} AND decision IS NULL AND expires_at > clock_timestamp() {condition}
    ORDER BY created_at, id LIMIT :limit
"""
_OWNERS: Final = {False: "user_id = :user_id", True: "coalesce(org_id, user_id) = :organisation_id"}
_AFTER: Final = "AND (created_at, id) > (:created_at, :id)"
# By (of the organisation, with a position).
_LISTS: Final = {
    (is_all, is_after): Statement(
        f"agent.list_interrupts{'_of_organisation' * is_all}{'_after' * is_after}",
        _LIST.format(shown=_SHOWN, owner=_OWNERS[is_all], condition=_AFTER if is_after else ""),
    )
    for is_all in (False, True)
    for is_after in (False, True)
}


def _interrupt(row: Record) -> Interrupt:
    return Interrupt(
        id=str(row["id"]),
        run_id=str(row["run_id"]),
        thread_id=str(row["thread_id"]),
        kind=InterruptKind(row["kind"]),
        call_id=row["call_id"],
        tool=row["tool"],
        arguments_json=row["arguments_json"],
        question=row["question"],
        answer_schema_json=row["answer_schema_json"],
        allowed=tuple(map(DecisionKind, row["allowed"])),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        decision=_decision(row),
    )


def _decision(row: Record) -> InterruptDecision | None:
    if row["decision"] is None:
        return None
    decided_by = "" if row["decided_by"] is None else str(row["decided_by"])
    return InterruptDecision(
        DecisionKind(row["decision"]), decided_by, row["decided_at"], row["value_json"], row["message"]
    )


def _decided_call(row: Record) -> DecidedCall:
    decision = Decision(row["call_id"], DecisionKind(row["decision"]), row["value_json"], row["message"])
    return DecidedCall(row["call_key"], row["tool"], row["arguments_json"], decision, row["graph_id"])


def _rejected(row: Record) -> Rejected:
    return Rejected(
        row["org_id"],
        UserId(row["user_id"]),
        ThreadId(row["thread_id"]),
        RunId(row["run_id"]),
        row["execution_id"],
        InterruptKind(row["kind"]),
        row["tool"],
    )
