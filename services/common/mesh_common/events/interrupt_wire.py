"""Converts interrupts to and from protobuf: those in events, and those that RPCs return."""

from datetime import UTC
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from mesh.agent.v1 import agent_pb2 as pb

from mesh_common.events.interrupts import DecisionKind, Interrupt, InterruptDecision, InterruptKind

_KINDS: Final = {
    InterruptKind.APPROVAL: pb.INTERRUPT_KIND_APPROVAL,
    InterruptKind.QUESTION: pb.INTERRUPT_KIND_QUESTION,
    InterruptKind.UNKNOWN: pb.INTERRUPT_KIND_UNSPECIFIED,
}
_KIND_BY_PB: Final[dict[int, InterruptKind]] = {number: kind for kind, number in _KINDS.items()}
_DECISIONS: Final = {
    DecisionKind.APPROVE: pb.DECISION_KIND_APPROVE,
    DecisionKind.EDIT: pb.DECISION_KIND_EDIT,
    DecisionKind.REJECT: pb.DECISION_KIND_REJECT,
    DecisionKind.ANSWER: pb.DECISION_KIND_ANSWER,
    DecisionKind.UNKNOWN: pb.DECISION_KIND_UNSPECIFIED,
}
_DECISION_BY_PB: Final[dict[int, DecisionKind]] = {number: kind for kind, number in _DECISIONS.items()}


def interrupt_pb(one: Interrupt) -> pb.Interrupt:
    message = pb.Interrupt(
        id=one.id,
        run_id=one.run_id,
        thread_id=one.thread_id,
        kind=_KINDS[one.kind],
        call_id=one.call_id,
        tool=one.tool,
        arguments_json=one.arguments_json,
        question=one.question,
        answer_schema_json=one.answer_schema_json,
        allowed=[_DECISIONS[kind] for kind in one.allowed],
        decision=_decision_pb(one.decision) if one.decision else None,
    )
    message.created_at.FromDatetime(one.created_at)
    message.expires_at.FromDatetime(one.expires_at)
    return message


def interrupt(message: pb.Interrupt) -> Interrupt:
    return Interrupt(
        id=message.id,
        run_id=message.run_id,
        thread_id=message.thread_id,
        kind=_KIND_BY_PB.get(message.kind, InterruptKind.UNKNOWN),
        call_id=message.call_id,
        tool=message.tool,
        arguments_json=message.arguments_json,
        question=message.question,
        answer_schema_json=message.answer_schema_json,
        allowed=tuple(map(decision_kind, message.allowed)),
        created_at=message.created_at.ToDatetime(tzinfo=UTC),
        expires_at=message.expires_at.ToDatetime(tzinfo=UTC),
        decision=_decision(message.decision) if message.HasField("decision") else None,
    )


def decision_kind(number: int) -> DecisionKind:
    return _DECISION_BY_PB.get(number, DecisionKind.UNKNOWN)


def decision_kind_pb(kind: DecisionKind) -> pb.DecisionKind.ValueType:
    return _DECISIONS[kind]


def _decision_pb(one: InterruptDecision) -> pb.InterruptDecision:
    decided_at = Timestamp()
    decided_at.FromDatetime(one.decided_at)
    return pb.InterruptDecision(
        kind=_DECISIONS[one.kind],
        decided_by=one.decided_by,
        decided_at=decided_at,
        value_json=one.value_json,
        message=one.message,
    )


def _decision(message: pb.InterruptDecision) -> InterruptDecision:
    return InterruptDecision(
        decision_kind(message.kind),
        message.decided_by,
        message.decided_at.ToDatetime(tzinfo=UTC),
        message.value_json,
        message.message,
    )
