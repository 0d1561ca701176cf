"""Builds the answer of a run from its events."""

from dataclasses import dataclass
from typing import Final, assert_never

import orjson
from mesh_common.errors import Conflict, Internal, MeshError, TooLarge, Unavailable
from mesh_common.events import model as events
from mesh_common.events.interrupts import Interrupt
from mesh_common.events.model import RecalledMemory, RunEvent, Usage

# The finish reason of the answer of an interrupted run, which itself has none.
_INTERRUPTED: Final = "interrupted"
# Permanent failures that the client can correct. All others are ours.
_PERMANENT: Final[dict[str, type[MeshError]]] = {"CONTEXT_TOO_LONG": TooLarge}


@dataclass(frozen=True, slots=True)
class Answer:
    run_id: str
    thread_id: str
    message_id: str
    content: str
    finish_reason: str
    usage: Usage
    memories: tuple[RecalledMemory, ...]
    is_memory_unavailable: bool
    parsed: object = None
    """The content as JSON, if the run has a response format."""
    interrupts: tuple[Interrupt, ...] = ()
    """What an interrupted run asks. Its content is what the model said before, if anything."""


class AnswerBuilder:
    """Takes the events of a run in order; a later attempt discards earlier ones."""

    def __init__(self, run_id: str, thread_id: str) -> None:
        self._run_id = run_id
        self._thread_id = thread_id
        self._attempt = 0
        self._begin()

    def _begin(self) -> None:
        self._recalled: events.MemoryRecalled | None = None
        self._completed: events.MessageCompleted | None = None
        self._end: events.Terminal | events.UnknownEvent | None = None

    def add(self, event: RunEvent) -> None:
        if event.attempt != self._attempt:
            self._attempt = event.attempt
            self._begin()
        body = event.body
        match body:
            case events.MessageDelta() | events.RunStarted() | events.RunRestarted():
                pass
            case events.ToolStarted() | events.ToolFinished():
                pass
            case events.StepStarted() | events.StepFinished() | events.Custom():
                pass
            case events.MemberDelta() | events.MemberCompleted():
                pass
            case events.MemoryRecalled():
                self._recalled = body
            case events.MessageCompleted():
                # The last one counts: a round with tool calls may complete a message before the answer.
                self._completed = body
            case events.RunFinished() | events.RunFailed() | events.RunCancelled() | events.RunInterrupted():
                self._end = body
            case events.UnknownEvent():
                self._end = body if body.is_terminal else self._end
            case _:
                assert_never(body)

    @property
    def run_status(self) -> str | None:
        """How the run ended; None if no terminal event came."""
        match self._end:
            case None:
                return None
            case events.RunFinished():
                return "succeeded"
            case events.RunFailed():
                return "failed"
            case events.RunCancelled():
                return "cancelled"
            case events.RunInterrupted():
                return "interrupted"
            case events.UnknownEvent():
                return "unknown"
            case _:
                assert_never(self._end)

    def answer(self) -> Answer:
        """Also of an interrupted run. Raises the run's error; Unavailable if no terminal event came."""
        end, completed = self._end, self._completed
        if isinstance(end, events.RunInterrupted):
            return self._answer(_INTERRUPTED, end.usage, end.interrupts)
        if not isinstance(end, events.RunFinished) or completed is None:
            raise self._error()
        return self._answer(end.finish_reason, end.usage)

    def _answer(self, finish_reason: str, usage: Usage, interrupts: tuple[Interrupt, ...] = ()) -> Answer:
        completed = self._completed
        return Answer(
            run_id=self._run_id,
            thread_id=self._thread_id,
            message_id=completed.message_id if completed else "",
            content=completed.content if completed else "",
            finish_reason=finish_reason,
            usage=usage,
            memories=self._recalled.memories if self._recalled else (),
            is_memory_unavailable=bool(self._recalled and self._recalled.is_unavailable),
            parsed=orjson.loads(completed.content) if completed and completed.is_json else None,
            interrupts=interrupts,
        )

    def _error(self) -> MeshError:
        match self._end:
            case None:
                return Unavailable("The run continues but cannot be followed right now.", reason="RUN_NOT_FOLLOWED")
            case events.RunFinished() | events.RunInterrupted():
                return Internal("The run ended without an answer.", reason="EMPTY_ANSWER")
            case events.RunFailed(error):
                permanent = _PERMANENT.get(error.reason, Internal)
                cls = Unavailable if error.is_retryable else permanent
                return cls(error.detail, reason=error.reason)
            case events.RunCancelled():
                return Conflict("The run was cancelled.", reason="RUN_CANCELLED")
            case events.UnknownEvent():
                return Internal("The run ended with an event unknown to this gateway.", reason="UNKNOWN_END")
            case _:
                assert_never(self._end)
