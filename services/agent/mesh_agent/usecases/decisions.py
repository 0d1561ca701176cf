"""Checks the decisions of a resume against what its run asks. Errors name the field as the caller knows it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from mesh_common.errors import InvalidInput

from mesh_agent.domain.interrupts import MAX_DECIDED_BYTES, MAX_REJECTION_CHARS, Decision, DecisionKind, Interrupt
from mesh_agent.tools.call import from_json
from mesh_agent.tools.schema import answer_faults


@dataclass(frozen=True, slots=True)
class DecisionRules:
    """`argument_faults(tool, arguments)` says what is wrong with edited arguments, empty if nothing is."""

    argument_faults: Callable[[str, Mapping[str, Any]], str]

    def check(self, decisions: Sequence[Decision], waiting: Sequence[Interrupt]) -> None:
        """Raises InvalidInput unless each of the interrupts has exactly one decision, which it allows."""
        by_call = {one.call_id: one for one in waiting}
        undecided = dict(by_call)
        for index, decision in enumerate(decisions):
            path = f"decisions.{index}"
            if decision.call_id not in by_call:
                raise InvalidInput.of_field(f"{path}.call_id", "is not a call that waits for a decision")
            if undecided.pop(decision.call_id, None) is None:
                raise InvalidInput.of_field(f"{path}.call_id", "is decided twice")
            self._check_one(decision, by_call[decision.call_id], path)
        if undecided:
            raise InvalidInput.of_field("decisions", f"lacks a decision about {', '.join(undecided)}")

    def _check_one(self, decision: Decision, interrupt: Interrupt, path: str) -> None:
        if decision.kind not in interrupt.allowed:
            allowed = ", ".join(interrupt.allowed)
            raise InvalidInput.of_field(f"{path}.decision", f"must be one of {allowed}")
        if decision.message and decision.kind is not DecisionKind.REJECT:
            raise InvalidInput.of_field(f"{path}.message", "is only for `reject`")
        if len(decision.message) > MAX_REJECTION_CHARS:
            raise InvalidInput.of_field(f"{path}.message", f"is longer than {MAX_REJECTION_CHARS} characters")
        if "\x00" in decision.message:
            raise InvalidInput.of_field(f"{path}.message", "contains the character NUL")
        self._check_value(decision, interrupt, path)

    def _check_value(self, decision: Decision, interrupt: Interrupt, path: str) -> None:
        match decision.kind:
            case DecisionKind.EDIT:
                field = f"{path}.arguments"
                arguments = _parsed(decision, field)
                if not isinstance(arguments, dict):
                    raise InvalidInput.of_field(field, "must be an object")
                _reject_faulty(field, self.argument_faults(interrupt.tool, arguments))
            case DecisionKind.ANSWER:
                field = f"{path}.answer"
                schema = from_json(interrupt.answer_schema_json)
                _reject_faulty(field, answer_faults(schema, _parsed(decision, field)))
            case DecisionKind.APPROVE | DecisionKind.REJECT | DecisionKind.UNKNOWN:
                if decision.value_json:
                    raise InvalidInput.of_field(path, "`arguments` is only for `edit`, `answer` only for `answer`")
            case _:
                assert_never(decision.kind)


def _parsed(decision: Decision, field: str) -> Any:
    if not decision.value_json:
        raise InvalidInput.of_field(field, "is missing")
    if len(decision.value_json.encode()) > MAX_DECIDED_BYTES:
        raise InvalidInput.of_field(field, f"is longer than {MAX_DECIDED_BYTES} bytes")
    try:
        return from_json(decision.value_json)
    except ValueError as error:
        raise InvalidInput.of_field(field, "is not JSON") from error


def _reject_faulty(field: str, faults: str) -> None:
    if faults:
        raise InvalidInput.of_field(field, f"does not fit the schema: {faults}")
