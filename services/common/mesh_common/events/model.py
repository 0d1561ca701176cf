"""The events of a run, shared by all services.

`type` is the event's name everywhere: the field of `RunEvent.event` in the proto, `event:` in Server-Sent Events.
`is_terminal` says that the event ends its run.
"""

from dataclasses import dataclass
from typing import ClassVar

from mesh_common.events.interrupts import Interrupt
from mesh_common.ids import RunId


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens over all rounds of a run; cost in micro-dollars (1e-6 USD)."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost_micro_usd: int = 0

    def plus(self, other: "Usage") -> "Usage":
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cost_micro_usd + other.cost_micro_usd,
        )


@dataclass(frozen=True, slots=True)
class RunError:
    """Why a run failed: `reason` is stable, `detail` is safe to show to users."""

    reason: str
    detail: str
    is_retryable: bool


@dataclass(frozen=True, slots=True)
class RecalledMemory:
    """One memory that the model is given; `similarity` is the cosine similarity to the message, -1..1."""

    id: str
    text: str
    similarity: float


@dataclass(frozen=True, slots=True)
class ToolResult:
    call_id: str
    tool: str
    arguments_json: str
    """Empty in events of release 0.1.0."""
    content: str
    is_error: bool
    is_unknown: bool = False
    """True if it is not known whether the call took effect; `is_error` is then true as well."""


@dataclass(frozen=True, slots=True)
class RunStarted:
    type: ClassVar = "run_started"
    is_terminal: ClassVar = False

    thread_id: str


@dataclass(frozen=True, slots=True)
class RunRestarted:
    """Opens a later attempt: earlier events are void, except these tool results."""

    type: ClassVar = "run_restarted"
    is_terminal: ClassVar = False

    thread_id: str
    reused_tool_results: tuple[ToolResult, ...]


@dataclass(frozen=True, slots=True)
class MemoryRecalled:
    type: ClassVar = "memory_recalled"
    is_terminal: ClassVar = False

    memories: tuple[RecalledMemory, ...]
    is_unavailable: bool


@dataclass(frozen=True, slots=True)
class MessageDelta:
    type: ClassVar = "message_delta"
    is_terminal: ClassVar = False

    message_id: str
    text: str


@dataclass(frozen=True, slots=True)
class MessageCompleted:
    type: ClassVar = "message_completed"
    is_terminal: ClassVar = False

    message_id: str
    content: str
    model: str
    agent: str = ""
    """Of a team; empty for the run's own assistant."""
    is_json: bool = False
    """Whether the content is JSON that fits the run's response format."""


@dataclass(frozen=True, slots=True)
class MemberDelta:
    """A piece of what a member of a team says to another agent."""

    type: ClassVar = "member_delta"
    is_terminal: ClassVar = False

    message_id: str
    agent: str
    text: str


@dataclass(frozen=True, slots=True)
class MemberCompleted:
    """The whole of what a member of a team says to another agent.

    A later attempt repeats it, without deltas, if the member was not done with its task.
    """

    type: ClassVar = "member_completed"
    is_terminal: ClassVar = False

    message_id: str
    agent: str
    content: str
    model: str


@dataclass(frozen=True, slots=True)
class ToolStarted:
    type: ClassVar = "tool_started"
    is_terminal: ClassVar = False

    call_id: str
    tool: str
    arguments_json: str
    agent: str = ""
    """As in `MessageCompleted`."""


@dataclass(frozen=True, slots=True)
class ToolFinished:
    type: ClassVar = "tool_finished"
    is_terminal: ClassVar = False

    result: ToolResult
    agent: str = ""
    """As in `MessageCompleted`."""


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A step of a graph in code begins. Parallel steps may have the same name."""

    type: ClassVar = "step_started"
    is_terminal: ClassVar = False

    step: str


@dataclass(frozen=True, slots=True)
class StepFinished:
    type: ClassVar = "step_finished"
    is_terminal: ClassVar = False

    step: str


@dataclass(frozen=True, slots=True)
class Custom:
    """What a graph in code tells the client. `data_json` is a JSON object."""

    type: ClassVar = "custom"
    is_terminal: ClassVar = False

    name: str
    data_json: str


@dataclass(frozen=True, slots=True)
class RunFinished:
    type: ClassVar = "run_finished"
    is_terminal: ClassVar = True

    finish_reason: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class RunFailed:
    type: ClassVar = "run_failed"
    is_terminal: ClassVar = True

    error: RunError
    usage: Usage


@dataclass(frozen=True, slots=True)
class RunCancelled:
    type: ClassVar = "run_cancelled"
    is_terminal: ClassVar = True

    usage: Usage


@dataclass(frozen=True, slots=True)
class RunInterrupted:
    """The run waits for decisions of a person. A resume starts the next run of the same execution."""

    type: ClassVar = "run_interrupted"
    is_terminal: ClassVar = True

    interrupts: tuple[Interrupt, ...]
    usage: Usage


@dataclass(frozen=True, slots=True)
class UnknownEvent:
    """An event of a newer release. It is passed on without being understood."""

    type: str
    is_terminal: bool
    wire: bytes
    """The RunEvent as received, so that a later reader, which may know it, gets all of it."""


Terminal = RunFinished | RunFailed | RunCancelled | RunInterrupted
KnownEvent = (
    RunStarted
    | RunRestarted
    | MemoryRecalled
    | MessageDelta
    | MessageCompleted
    | MemberDelta
    | MemberCompleted
    | ToolStarted
    | ToolFinished
    | StepStarted
    | StepFinished
    | Custom
    | Terminal
)
"""The events that a run of this release can have."""
EventBody = KnownEvent | UnknownEvent


@dataclass(frozen=True, slots=True)
class RunEvent:
    """`seq` counts 1, 2, 3 … without gaps within the attempt."""

    run_id: RunId
    attempt: int
    seq: int
    body: EventBody

    @property
    def is_terminal(self) -> bool:
        return self.body.is_terminal


@dataclass(frozen=True, slots=True)
class Position:
    """The last event that a follower saw. (0, 0) is before the first."""

    attempt: int = 0
    seq: int = 0

    def seq_within(self, attempt: int) -> int:
        """The `seq` after which to continue in `attempt`: 0, its start, if the position is of another attempt."""
        return self.seq if self.attempt == attempt else 0
