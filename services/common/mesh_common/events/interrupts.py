"""What an interrupted run asks a person, and what they decide, as events carry it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class InterruptKind(StrEnum):
    APPROVAL = "approval"
    """Whether a tool call may be made."""
    QUESTION = "question"
    """An answer to the model's question."""
    UNKNOWN = "unknown"
    """A kind of a newer release."""

    @classmethod
    def _missing_(cls, value: object) -> "InterruptKind":
        del value
        return cls.UNKNOWN


class DecisionKind(StrEnum):
    APPROVE = "approve"
    EDIT = "edit"
    """Make the call with other arguments."""
    REJECT = "reject"
    ANSWER = "answer"
    UNKNOWN = "unknown"
    """A kind of a newer release."""

    @classmethod
    def _missing_(cls, value: object) -> "DecisionKind":
        del value
        return cls.UNKNOWN


@dataclass(frozen=True, slots=True)
class InterruptDecision:
    """What was decided. `value_json` is the edited arguments or the answer, else empty.

    `decided_by` is empty if the interrupt expired or a new message replaced it; `message` then says which.
    """

    kind: DecisionKind
    decided_by: str
    decided_at: datetime
    value_json: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Interrupt:
    """One question of an interrupted run to a person. `question` and `answer_schema_json` are empty for an approval."""

    id: str
    run_id: str
    thread_id: str
    kind: InterruptKind
    call_id: str
    tool: str
    arguments_json: str
    question: str
    answer_schema_json: str
    allowed: tuple[DecisionKind, ...]
    created_at: datetime
    expires_at: datetime
    decision: InterruptDecision | None = None
