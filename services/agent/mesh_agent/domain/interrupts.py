"""What a run asks a person, and what they decide."""

from dataclasses import dataclass
from typing import NewType
from uuid import UUID

from mesh_common.events import interrupts as events
from mesh_common.ids import RunId, ThreadId

from mesh_agent.domain.threads import Metadata

MAX_REJECTION_CHARS = 2_000
MAX_DECIDED_BYTES = 65_536
"""Of edited arguments, and of an answer."""

# Shared with events.
DecisionKind = events.DecisionKind
Interrupt = events.Interrupt
InterruptDecision = events.InterruptDecision
InterruptKind = events.InterruptKind
ExecutionId = NewType("ExecutionId", UUID)
"""The id of the LangGraph thread that a run shares with the runs that resume it."""


@dataclass(frozen=True, slots=True)
class Question:
    """What the graph asks a person about one tool call. `graph_id` is LangGraph's id of its interrupt."""

    call_key: str
    kind: InterruptKind
    call_id: str
    tool: str
    arguments_json: str
    question: str = ""
    answer_schema_json: str = ""
    graph_id: str = ""

    @property
    def allowed(self) -> tuple[DecisionKind, ...]:
        if self.kind is InterruptKind.QUESTION:
            return DecisionKind.ANSWER, DecisionKind.REJECT
        return DecisionKind.APPROVE, DecisionKind.EDIT, DecisionKind.REJECT


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as the end of its run stores and shows it."""

    question: Question
    interrupt: Interrupt


@dataclass(frozen=True, slots=True)
class Decision:
    """A person's decision about the call with this id."""

    call_id: str
    kind: DecisionKind
    value_json: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class DecidedCall:
    """A decision, and the call that it is about: no other call may be made with it."""

    call_key: str
    tool: str
    arguments_json: str
    decision: Decision
    graph_id: str = ""

    def is_about(self, question: Question) -> bool:
        return (self.tool, self.arguments_json) == (question.tool, question.arguments_json)


@dataclass(frozen=True, slots=True)
class InterruptedRun:
    """A run to be resumed, as it is stored. `is_interrupted` is False if it has not ended, or in another way."""

    id: RunId
    thread_id: ThreadId
    is_interrupted: bool
    execution_id: ExecutionId
    plan_hash: bytes | None
    metadata: Metadata
    assistant: str = ""
    assistant_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class ResumeInput:
    """A request to resume an interrupted run as the new run `run_id`."""

    run_id: RunId
    resumes_run_id: RunId
    decisions: tuple[Decision, ...]
    idempotency_key: str | None = None
