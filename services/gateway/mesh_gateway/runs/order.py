"""What a client asks for when it starts a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mesh_common.events.interrupts import DecisionKind
from mesh_common.ids import RunId

# What happens to a new run on a thread that already has an unended run.
Multitask = Literal["enqueue", "reject", "interrupt", "rollback"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person decides about one call. `value_json`: edited arguments, or an answer."""

    call_id: str
    kind: DecisionKind
    value_json: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class ResumeOrder:
    """The interrupted run to resume, and a decision about each of its calls that wait."""

    run_id: RunId
    decisions: Sequence[Decision]


@dataclass(frozen=True, slots=True)
class RunOrder:
    """A run to be started."""

    run_id: RunId
    message: str
    metadata: Mapping[str, str]
    thread_id: str | None = None
    model: str | None = None
    assistant: str | None = None
    response_format_json: str | None = None
    """The form of the answer; None for the assistant's, or text."""
    multitask: Multitask = "enqueue"
    cancels_on_disconnect: bool = False
    idempotency_key: str | None = None
    is_followed: bool = True
    """False if the client does not read events after the acknowledgement."""
    resume: ResumeOrder | None = None
    """Instead of a message."""
