"""What happens in an attempt of a run. `seq` counts 1, 2, 3 … without gaps within the attempt."""

from dataclasses import dataclass

from mesh_common.ids import RunId

from mesh_agent.domain import RecalledMemory, RunError, ToolResult, Usage


@dataclass(frozen=True, slots=True)
class RunStarted:
    thread_id: str


@dataclass(frozen=True, slots=True)
class RunRestarted:
    """Opens a later attempt: what came before is void, except these tool results."""

    thread_id: str
    reused_tool_results: tuple[ToolResult, ...]


@dataclass(frozen=True, slots=True)
class MemoryRecalled:
    memories: tuple[RecalledMemory, ...]
    is_unavailable: bool


@dataclass(frozen=True, slots=True)
class MessageDelta:
    message_id: str
    text: str


@dataclass(frozen=True, slots=True)
class MessageCompleted:
    message_id: str
    content: str
    model: str


@dataclass(frozen=True, slots=True)
class ToolStarted:
    call_id: str
    tool: str
    arguments_json: str


@dataclass(frozen=True, slots=True)
class ToolFinished:
    result: ToolResult


@dataclass(frozen=True, slots=True)
class RunFinished:
    finish_reason: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class RunFailed:
    error: RunError
    usage: Usage


@dataclass(frozen=True, slots=True)
class RunCancelled:
    usage: Usage


Terminal = RunFinished | RunFailed | RunCancelled
EventBody = (
    RunStarted | RunRestarted | MemoryRecalled | MessageDelta | MessageCompleted | ToolStarted | ToolFinished | Terminal
)


@dataclass(frozen=True, slots=True)
class RunEvent:
    run_id: RunId
    attempt: int
    seq: int
    body: EventBody

    @property
    def is_terminal(self) -> bool:
        return isinstance(self.body, Terminal)


@dataclass(frozen=True, slots=True)
class Position:
    """The last event a follower saw. (0, 0) is before the first."""

    attempt: int = 0
    seq: int = 0

    def seq_within(self, attempt: int) -> int:
        """After which `seq` to go on in `attempt`: from its start when the position is of an older one."""
        return self.seq if self.attempt == attempt else 0
