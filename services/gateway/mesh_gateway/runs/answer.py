"""The JSON answer of a run, gathered from its events."""

from typing import Final

from mesh_common.errors import Conflict, Internal, MeshError, Unavailable

from mesh_gateway.protocols.native.schemas.runs import AnswerMessage, ChatAnswer, RecalledMemory, Usage
from mesh_gateway.runs.events import StreamEvent

_STATUS_BY_END: Final = {"run_finished": "succeeded", "run_failed": "failed", "run_cancelled": "cancelled"}


class AnswerBuilder:
    """Takes the events of a run in order; a later attempt voids what came before."""

    def __init__(self, run_id: str, thread_id: str) -> None:
        self._run_id = run_id
        self._thread_id = thread_id
        self._attempt = 0
        self._seen: dict[str, StreamEvent] = {}

    def add(self, event: StreamEvent) -> None:
        if event.position.attempt != self._attempt:
            self._attempt = event.position.attempt
            self._seen.clear()
        # The last of each type counts: a round of tools may complete a message of its own before the answer.
        self._seen[event.type] = event

    @property
    def run_status(self) -> str | None:
        """How the run ended; None when its end was not seen."""
        return next((status for event, status in _STATUS_BY_END.items() if event in self._seen), None)

    def answer(self) -> ChatAnswer:
        """Raises the run's error; Unavailable when its end was not seen."""
        finished, completed = self._seen.get("run_finished"), self._seen.get("message_completed")
        if finished is None or completed is None:
            raise self._error()
        recalled = self._seen.get("memory_recalled")
        return ChatAnswer(
            run_id=self._run_id,
            thread_id=self._thread_id,
            message=AnswerMessage(id=completed.fields["message_id"], content=completed.fields["content"]),
            finish_reason=finished.fields["finish_reason"],
            usage=Usage(**finished.fields["usage"]),
            memories=[RecalledMemory(**one) for one in recalled.fields["memories"]] if recalled else [],
            is_memory_unavailable=bool(recalled and recalled.fields["is_unavailable"]),
        )

    def _error(self) -> MeshError:
        if "run_cancelled" in self._seen:
            return Conflict("The run was cancelled.", reason="RUN_CANCELLED")
        if "run_finished" in self._seen:
            return Internal("The run ended without an answer.", reason="EMPTY_ANSWER")
        failed = self._seen.get("run_failed")
        if failed is None:
            return Unavailable("The run goes on, but cannot be followed right now.", reason="RUN_NOT_FOLLOWED")
        cls = Unavailable if failed.fields["retryable"] else Internal
        return cls(str(failed.fields["detail"]), reason=str(failed.fields["reason"]))
