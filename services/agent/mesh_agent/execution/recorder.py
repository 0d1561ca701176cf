"""One attempt as it goes: the answer that grows, what it cost, and the events that tell of both."""

import time
from collections.abc import Callable, Sequence

from mesh_common.events.model import (
    EventBody,
    MemoryRecalled,
    MessageCompleted,
    MessageDelta,
    RunRestarted,
    RunStarted,
    ToolFinished,
    ToolStarted,
)
from mesh_common.ids import new_id

from mesh_agent.checkpoint import RunCheckpoints
from mesh_agent.domain import Outcome, Progress, RecalledMemory, RunError, RunStatus, ToolResult, Usage
from mesh_agent.events.coalescing import TextWindow, text_window
from mesh_agent.events.log import EventLog
from mesh_agent.execution.bill import Bill
from mesh_agent.execution.prefetch import PrefetchedRecall
from mesh_agent.llm.registry import Model
from mesh_agent.metrics import FIRST_TOKEN_SECONDS
from mesh_agent.tools.call import ToolCall

_BETWEEN_ROUNDS = "\n\n"
_CUT = "The call was cut before it gave a result; it may have acted all the same."


class Recorder:
    """Deltas joined are the answer, always; text of several rounds is set apart by an empty line."""

    def __init__(
        self,
        log: EventLog,
        load: Callable[[], float],
        claimed_at_s: float,
        prefetched_recall: PrefetchedRecall | None = None,
    ) -> None:
        """`claimed_at_s`: the monotonic time before the claim was sent. `prefetched_recall` goes with the attempt."""
        self.log = log
        self.claim = log.claim
        self.prefetched_recall = prefetched_recall
        self.message_id = new_id()
        self._message_id = str(self.message_id)
        self._load = load
        self._parts: list[str] = []
        self._untold: list[str] = []
        self._round_has_text = False
        self._claimed_at_s = claimed_at_s
        self._has_spoken = False
        self._bill = Bill()
        self._open_calls: dict[int, ToolCall] = {}
        self.model = self.claim.model or ""
        self.checkpoints: RunCheckpoints | None = None

    @property
    def has_checkpoints(self) -> bool:
        """Whether this attempt or one before wrote checkpoints, which then go with the end."""
        return not self.claim.opens_execution or (self.checkpoints is not None and self.checkpoints.has_written)

    @property
    def has_started(self) -> bool:
        return bool(self.log.events)

    def start(self, progress: Progress) -> None:
        """Opens the attempt; one that goes on from a safe point repeats what it builds on."""
        thread_id = str(self.claim.thread_id)
        is_first = self.claim.attempt == 1
        self._tell(RunStarted(thread_id) if is_first else RunRestarted(thread_id, progress.tool_results))
        for text in progress.texts:
            self._round_has_text = False
            self._say(text)
        self._bill = Bill(progress.usage)
        self.model = progress.model or self.model

    def close(self) -> None:
        """Nobody executes it any more, however it ended."""
        if self.prefetched_recall:
            self.prefetched_recall.cancel()
        self.log.close()

    def recalled(self, memories: Sequence[RecalledMemory], *, is_unavailable: bool) -> None:
        self._tell(MemoryRecalled(tuple(memories), is_unavailable=is_unavailable))

    def begin_round(self, prompt_tokens: Callable[[], int]) -> None:
        """`prompt_tokens` is asked only when the round is cut: then nobody tells what the provider read."""
        self._round_has_text = False
        self._bill.begin_round(prompt_tokens)

    def on_text(self, text: str, chunks: int = 1) -> None:
        if not self._has_spoken:
            FIRST_TOKEN_SECONDS.observe(time.monotonic() - self._claimed_at_s)
        self._has_spoken = True
        self._bill.on_text(chunks)
        self._say(text)

    def next_window(self) -> TextWindow:
        """Tells what was said so far; more may gather for so long."""
        self._tell_text()
        return text_window(self._load())

    def on_model(self, model: Model) -> None:
        self._bill.on_model(model)
        self.model = model.name

    def end_round(self, usage: Usage) -> None:
        self._tell_text()
        self._bill.end_round(usage)

    def fail_round(self) -> None:
        self._bill.fail_round()

    def tool_started(self, call: ToolCall) -> None:
        self._open_calls[id(call)] = call
        self._tell(ToolStarted(call.id, call.name, call.arguments_json))

    def tool_finished(self, call: ToolCall, result: ToolResult) -> None:
        self._open_calls.pop(id(call), None)
        self._tell(ToolFinished(result))

    def succeeded(self, finish_reason: str) -> Outcome:
        self._tell(MessageCompleted(self._message_id, self.answer, self.model))
        return self._outcome(RunStatus.SUCCEEDED, finish_reason=finish_reason)

    def failed(self, error: RunError) -> Outcome:
        return self._outcome(RunStatus.FAILED, error=error)

    def cancelled(self) -> Outcome:
        return self._outcome(RunStatus.CANCELLED)

    @property
    def answer(self) -> str:
        return "".join(self._parts)

    def _outcome(
        self, status: RunStatus, *, finish_reason: str | None = None, error: RunError | None = None
    ) -> Outcome:
        # Deltas joined are the answer, also of a run that was cut.
        self._tell_text()
        for call in self._open_calls.values():
            self._tell(ToolFinished(_cut(call)))
        self._open_calls.clear()
        usage = self._bill.total()
        return Outcome(status, self.answer, self.message_id, self.model, usage, finish_reason, error)

    def _say(self, text: str) -> None:
        if self._parts and not self._round_has_text:
            self._take(_BETWEEN_ROUNDS)
        self._round_has_text = True
        self._take(text)

    def _take(self, text: str) -> None:
        is_first = not self._parts
        self._parts.append(text)
        self._untold.append(text)
        if is_first:
            self._tell_text()

    def _tell_text(self) -> None:
        if self._untold:
            text = "".join(self._untold)
            self._untold.clear()
            self.log.append(MessageDelta(self._message_id, text))

    def _tell(self, body: EventBody) -> None:
        self._tell_text()
        self.log.append(body)


def _cut(call: ToolCall) -> ToolResult:
    return ToolResult(call.id, call.name, call.arguments_json, _CUT, is_error=True, is_unknown=True)
