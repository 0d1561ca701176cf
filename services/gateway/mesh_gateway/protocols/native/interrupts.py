"""Converts interrupts and decisions between the native API's bodies and the gateway's objects."""

from mesh_common.events.interrupts import DecisionKind, Interrupt, InterruptDecision

from mesh_gateway.protocols.native.events import json_or_text
from mesh_gateway.protocols.native.schemas import interrupts as bodies
from mesh_gateway.runs.order import Decision


def shown(one: Interrupt) -> bodies.Interrupt:
    return bodies.Interrupt(
        id=one.id,
        run_id=one.run_id,
        thread_id=one.thread_id,
        kind=one.kind.value,
        call_id=one.call_id,
        tool=one.tool,
        arguments=json_or_text(one.arguments_json),
        question=one.question or None,
        answer_schema=json_or_text(one.answer_schema_json) if one.answer_schema_json else None,
        allowed=[kind.value for kind in one.allowed],
        created_at=one.created_at,
        expires_at=one.expires_at,
        decision=_decision(one.decision) if one.decision else None,
    )


def _decision(one: InterruptDecision) -> bodies.InterruptDecision:
    value = json_or_text(one.value_json) if one.value_json else None
    return bodies.InterruptDecision(
        decision=one.kind.value,
        decided_by=one.decided_by or None,
        decided_at=one.decided_at,
        arguments=value if one.kind is DecisionKind.EDIT else None,
        answer=value if one.kind is DecisionKind.ANSWER else None,
        message=one.message or None,
    )


def decision_of(body: bodies.DecisionBody) -> Decision:
    return Decision(body.call_id, DecisionKind(body.decision), _value_json(body), body.message)


def _value_json(body: bodies.DecisionBody) -> str:
    """What was given, if anything: the agent knows whether it belongs to the decision. `null` is an answer too."""
    if body.arguments is not None:
        return bodies.dump_exactly(body.arguments)
    if "answer" in body.model_fields_set:
        return bodies.dump_exactly(body.answer)
    return ""
