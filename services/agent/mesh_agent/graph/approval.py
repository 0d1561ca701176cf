"""Which tool calls need a person, what is asked, and what a decision makes of a call.

A call is reviewed each time its node runs: in the run that asks, and again in the run that resumes it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from mesh_agent.domain.interrupts import DecidedCall, DecisionKind, InterruptKind, Question
from mesh_agent.domain.tools import ToolResult
from mesh_agent.plans.plan import PlannedTool
from mesh_agent.tools.call import ToolCall, from_json, to_json
from mesh_agent.tools.registry import ToolRegistry, tool_of_plan
from mesh_agent.tools.schema import schema_fault

# A person approves what they can see: all of it is in an event.
_MAX_ARGUMENTS_CHARS: Final = 65_536
_MAX_SCHEMA_CHARS: Final = 16_384
_TEXT: Final[Mapping[str, Any]] = {"type": "string"}


@dataclass(frozen=True, slots=True)
class Reviewed:
    """A call, perhaps with a fault for which it is not made, and what to ask a person before it is made."""

    call: ToolCall
    is_parallel: bool = True
    question: Question | None = None


def review(registry: ToolRegistry, planned: Sequence[PlannedTool], call: ToolCall, call_key: str) -> Reviewed:
    """A person is asked only about calls that could be made."""
    policy = tool_of_plan(call, planned)
    if policy is None or not policy.needs_approval or call.fault:
        return Reviewed(call, is_parallel=policy is None or policy.is_parallel)
    fault = registry.faults(call.arguments, policy)
    if fault:
        return _faulty(call, f"The arguments are not valid: {fault}")
    reviewed = _question(call, call_key) if policy.is_question else _approval(call, call_key)
    return replace(reviewed, is_parallel=policy.is_parallel)


def _faulty(call: ToolCall, fault: str) -> Reviewed:
    return Reviewed(replace(call, fault=_storable(fault)))


def _approval(call: ToolCall, call_key: str) -> Reviewed:
    arguments_json = _storable(call.arguments_json)
    if len(arguments_json) > _MAX_ARGUMENTS_CHARS:
        return _faulty(
            call, f"The arguments are longer than {_MAX_ARGUMENTS_CHARS} characters, too long to be approved."
        )
    question = Question(call_key, InterruptKind.APPROVAL, _storable(call.id), call.name, arguments_json)
    return Reviewed(call, question=question)


def _question(call: ToolCall, call_key: str) -> Reviewed:
    schema = call.arguments.get("answer_schema") or _TEXT
    schema_json = to_json(schema)
    if len(schema_json) > _MAX_SCHEMA_CHARS:
        return _faulty(call, f"The answer_schema is longer than {_MAX_SCHEMA_CHARS} characters.")
    if fault := schema_fault(schema):
        return _faulty(call, f"The answer_schema is not valid: {fault}")
    question = Question(
        call_key,
        InterruptKind.QUESTION,
        _storable(call.id),
        call.name,
        _storable(call.arguments_json),
        _storable(str(call.arguments["question"])),
        schema_json,
    )
    return Reviewed(call, question=question)


def is_permitted(decided: DecidedCall | None) -> bool:
    return decided is not None and decided.decision.kind in {DecisionKind.APPROVE, DecisionKind.EDIT}


def edited(call: ToolCall, decided: DecidedCall | None) -> ToolCall:
    """The call as it is to be made."""
    if decided is None or decided.decision.kind is not DecisionKind.EDIT:
        return call
    return replace(call, arguments=from_json(decided.decision.value_json))


def result_without_call(call: ToolCall, decided: DecidedCall | None) -> ToolResult | None:
    """The result of a call that is not made: a rejection, or the answer to a question. None if it is made."""
    if decided is None or is_permitted(decided):
        return None
    decision = decided.decision
    if decision.kind is DecisionKind.ANSWER:
        return ToolResult(call.id, call.name, call.arguments_json, _text(decision.value_json), is_error=False)
    reason = f" The reason: {decision.message}" if decision.message else ""
    return ToolResult(call.id, call.name, call.arguments_json, f"{_REJECTED}{reason}", is_error=True)


_REJECTED: Final = "A person rejected this call, and it was not made."


def as_model_reads(content: str, decided: DecidedCall | None) -> str:
    """The result of a call whose arguments a person changed says so: the model remembers its own arguments."""
    if decided is None or decided.decision.kind is not DecisionKind.EDIT:
        return content
    return f"(A person changed the arguments of this call to {decided.decision.value_json}.)\n{content}"


def _text(value_json: str) -> str:
    """An answer that is a text is given as it is, anything else as JSON."""
    value = from_json(value_json)
    return _storable(value) if isinstance(value, str) else value_json


def _storable(text: str) -> str:
    """Without NUL and halves of surrogate pairs, which PostgreSQL and protobuf refuse."""
    return text.replace("\x00", "\ufffd").encode(errors="replace").decode()
