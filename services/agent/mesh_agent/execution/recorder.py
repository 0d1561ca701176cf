"""Records one attempt: its answer so far, its cost, and its events."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from mesh_common.events.model import (
    Custom,
    EventBody,
    MemoryRecalled,
    MessageCompleted,
    MessageDelta,
    RunRestarted,
    RunStarted,
    StepFinished,
    StepStarted,
    ToolFinished,
    ToolStarted,
)
from mesh_common.ids import new_id

from mesh_agent.checkpoint import RunCheckpoints
from mesh_agent.domain.attempts import CutRound, InterimMessage, Outcome, Progress
from mesh_agent.domain.interrupts import Question
from mesh_agent.domain.runs import MAX_ANSWER_BYTES, RunError, RunStatus, Usage
from mesh_agent.domain.threads import RecalledMemory
from mesh_agent.domain.tools import ToolResult
from mesh_agent.events.coalescing import until_tick_s
from mesh_agent.events.log import EventLog
from mesh_agent.execution.aside import Aside
from mesh_agent.execution.asking import as_interrupts
from mesh_agent.execution.bill import Bill
from mesh_agent.execution.prefetch import PrefetchedRecall
from mesh_agent.execution.team_usage import TeamUsage
from mesh_agent.llm.completion import AnswerFullError
from mesh_agent.llm.registry import Model
from mesh_agent.metrics import FIRST_TOKEN_SECONDS
from mesh_agent.tools.call import ToolCall


@dataclass(frozen=True, slots=True)
class _Author:
    """Of a message: the agent, as in `MessageCompleted`, and the model."""

    agent: str = ""
    model: str = ""


_BETWEEN_ROUNDS = "\n\n"
_MAX_BYTES_PER_CHARACTER = 4
# Of a call's arguments, in its event. Longer ones are a fault of the model; the tool receives them whole.
_MAX_SHOWN_ARGUMENTS = 65_536
_INTERRUPTED = "The call was interrupted before it returned a result; it may have taken effect nevertheless."


class Recorder:
    """The deltas of a message joined are always its text. The texts of rounds are messages of their own, and the last
    one is the answer."""

    def __init__(
        self,
        log: EventLog,
        claimed_at_s: float,
        prefetched_recall: PrefetchedRecall | None = None,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        """`claimed_at_s`: the monotonic time before the claim was sent. `close` cancels `prefetched_recall`."""
        self.log = log
        self.claim = log.claim
        self.prefetched_recall = prefetched_recall
        self.message_id = new_id()
        self._message_id = str(self.message_id)
        self._parts: list[str] = []
        self._left_bytes = max_answer_bytes
        self._round_began_at = 0
        self._pending_text: list[str] = []
        self._round_has_text = False
        self._interim: list[InterimMessage] = []
        self._author = _Author()
        self.joins_rounds = False
        """Whether the texts of rounds are one message, with an empty line between them: that of a graph in code."""
        self._claimed_at_s = claimed_at_s
        self._has_first_token = False
        self._bill = Bill({})
        self._earlier_by_agent: Mapping[str, Usage] = {}
        self._asides: list[Aside] = []
        self._open_calls: dict[int, tuple[ToolCall, str]] = {}
        self.model = self.claim.model or ""
        self.checkpoints: RunCheckpoints | None = None
        self.forget_generation: int | None = None
        self.is_remembered = True
        self.is_json = False
        """Whether the answer is JSON that fits the run's response format."""
        self.team_usage: TeamUsage | None = None
        """Only of a run of a team: what each of its agents used."""
        self._speaker = ""
        self.deadline_s: float | None = None
        """The end of the attempt in the event loop's time; None before the attempt begins."""

    @property
    def has_checkpoints(self) -> bool:
        """Whether this or an earlier attempt may have written checkpoints, to be deleted when the run ends."""
        return not self.claim.opens_execution or (self.checkpoints is not None and self.checkpoints.has_written)

    @property
    def has_started(self) -> bool:
        return bool(self.log.events)

    def start(self, progress: Progress) -> None:
        """Opens the attempt. One that continues from a safe point first repeats the text up to there."""
        thread_id = str(self.claim.thread_id)
        is_first = self.claim.attempt == 1
        self.emit(RunStarted(thread_id) if is_first else RunRestarted(thread_id, progress.tool_results))
        self._speaker, self.model = progress.agent, progress.model or self.model
        self.joins_rounds = progress.is_one_message
        for text in progress.texts:
            self._round_has_text = False
            self._add_text(text)
        self._bill = Bill(progress.billed)
        self._earlier_by_agent = progress.billed_by_agent

    def close(self) -> None:
        """The attempt no longer executes, however it ended."""
        if self.prefetched_recall:
            self.prefetched_recall.cancel()
        self.log.close()

    def recalled(self, memories: Sequence[RecalledMemory], *, is_unavailable: bool) -> None:
        self.emit(MemoryRecalled(tuple(memories), is_unavailable=is_unavailable))

    def begin_team(self, own_name: str) -> None:
        """The run is one of a team, whose first agent has this name."""
        self.team_usage = TeamUsage(own_name, self._earlier_by_agent)

    def begin_round(self, prompt_tokens: Callable[[], int], agent: str = "") -> None:
        """`prompt_tokens` is called only if the round is interrupted, because the provider then reports no usage.

        `agent` of a team speaks to the user from now on.
        """
        self._speaker = agent
        self._round_has_text = False
        self._round_began_at = len(self._parts)
        self._bill.begin_round(prompt_tokens)

    def on_text(self, text: str, chunks: int = 1) -> None:
        if not self._has_first_token:
            FIRST_TOKEN_SECONDS.observe(time.monotonic() - self._claimed_at_s)
        self._has_first_token = True
        self._bill.on_text(chunks)
        fitting = _head(text, self._left_bytes)
        if fitting:
            self._add_text(fitting)
        if len(fitting) < len(text):
            raise AnswerFullError

    def until_tick_s(self) -> float:
        """Emits the text so far, and returns the seconds until the next tick."""
        self._emit_text()
        return until_tick_s(time.monotonic())

    def on_model(self, model: Model) -> None:
        self._bill.on_model(model)
        self.model = model.name

    def end_round(self, usage: Usage) -> None:
        self._emit_text()
        self._bill.end_round(usage)
        if self.team_usage:
            self.team_usage.add(self._speaker, usage)

    def cut_round(self) -> CutRound:
        self._emit_text()
        texts = self._parts[self._round_began_at :]
        if texts and texts[0] == _BETWEEN_ROUNDS:
            texts = texts[1:]
        usage = self._bill.cut_round()
        if self.team_usage:
            self.team_usage.add(self._speaker, usage)
        return CutRound("".join(texts), self.model, usage)

    def fail_round(self) -> None:
        self._bill.fail_round()

    def add_aside(self, aside: Aside) -> Aside:
        """Bills an answer that is no part of this run's."""
        self._asides.append(aside)
        return aside

    def say(self, text: str) -> None:
        """A paragraph that no model wrote. Raises AnswerFullError."""
        self._round_has_text = False
        self.on_text(text, 0)
        self._emit_text()

    def step_started(self, step: str) -> None:
        self.emit(StepStarted(step))

    def step_finished(self, step: str) -> None:
        self.emit(StepFinished(step))

    def custom(self, name: str, data_json: str) -> None:
        self.emit(Custom(name, data_json))

    def tool_started(self, call: ToolCall, agent: str = "") -> None:
        self._open_calls[id(call)] = call, agent
        self.emit(ToolStarted(call.id, call.name, call.arguments_json[:_MAX_SHOWN_ARGUMENTS], agent))

    def tool_finished(self, call: ToolCall, result: ToolResult, agent: str = "") -> None:
        self._open_calls.pop(id(call), None)
        shown = replace(result, arguments_json=result.arguments_json[:_MAX_SHOWN_ARGUMENTS])
        self.emit(ToolFinished(shown, agent))

    def tool_paused(self, call: ToolCall) -> None:
        """The call has no result in this run, and continues in the run that resumes it."""
        self._open_calls.pop(id(call), None)

    def succeeded(self, finish_reason: str) -> Outcome:
        self.model = self.model or self._model_aside()
        self._author = replace(self._author, model=self._author.model or self.model)
        self._emit_completed(is_json=self.is_json)
        return self._outcome(RunStatus.SUCCEEDED, finish_reason=finish_reason)

    def interrupted(self, questions: Sequence[Question], ttl_s: float) -> Outcome:
        """The text so far, if any, is a message of its own: the run that resumes this one writes another."""
        if self._parts:
            self._emit_completed()
        asked = as_interrupts(self.claim, questions, ttl_s)
        return replace(self._outcome(RunStatus.INTERRUPTED), asked=asked)

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
        # The deltas joined are the answer, even of an interrupted run.
        self._emit_text()
        for call, agent in self._open_calls.values():
            self.emit(ToolFinished(_interrupted(call), agent))
        self._open_calls.clear()
        billed, generation = self._billed(), self.forget_generation
        self.model = self.model or self._model_aside()
        return Outcome(
            status,
            self.answer,
            self.message_id,
            self.model,
            billed,
            finish_reason,
            error,
            generation,
            is_remembered=self.is_remembered,
            interim=tuple(self._interim),
            agent=self._author.agent,
            billed_by_agent=self._billed_by_agent(),
        )

    def _billed_by_agent(self) -> Mapping[str, Usage]:
        if self.team_usage is None:
            return {}
        asides = [(aside.agent, usage) for aside in self._asides for usage in aside.bill.by_model().values()]
        return self.team_usage.with_more([(self._speaker, self._bill.open_round()), *asides])

    def _model_aside(self) -> str:
        """The model that was asked last, if none has answered the user."""
        return next((aside.model for aside in reversed(self._asides) if aside.model), "")

    def _billed(self) -> Mapping[str, Usage]:
        billed = dict(self._bill.by_model())
        for aside in self._asides:
            for name, usage in aside.bill.by_model().items():
                billed[name] = billed.get(name, Usage()).plus(usage)
        return billed

    def _add_text(self, text: str) -> None:
        if self._parts and not self._round_has_text:
            if self.joins_rounds:
                self._add_part(_BETWEEN_ROUNDS)
            else:
                self._begin_message()
        self._round_has_text = True
        self._add_part(text)

    def _begin_message(self) -> None:
        """The message so far is whole, and no answer: more is to come."""
        self._emit_completed()
        self._interim.append(InterimMessage(self.message_id, self.answer, self._author.agent))
        self.message_id = new_id()
        self._message_id = str(self.message_id)
        self._parts = []
        self._round_began_at = 0

    def _emit_completed(self, *, is_json: bool = False) -> None:
        author = self._author
        self.emit(MessageCompleted(self._message_id, self.answer, author.model, author.agent, is_json))

    def _add_part(self, text: str) -> None:
        is_first = not self._parts
        if is_first:
            self._author = _Author(self._speaker, self.model)
        self._left_bytes -= len(text.encode())
        self._parts.append(text)
        self._pending_text.append(text)
        if is_first:
            self._emit_text()

    def _emit_text(self) -> None:
        if self._pending_text:
            text = "".join(self._pending_text)
            self._pending_text.clear()
            self.log.append(MessageDelta(self._message_id, text))

    def emit(self, body: EventBody) -> None:
        self._emit_text()
        self.log.append(body)


def _head(text: str, max_bytes: int) -> str:
    """As many whole characters of the text as fit."""
    if len(text) * _MAX_BYTES_PER_CHARACTER <= max_bytes:
        return text
    return text.encode()[: max(0, max_bytes)].decode(errors="ignore")


def _interrupted(call: ToolCall) -> ToolResult:
    arguments = call.arguments_json[:_MAX_SHOWN_ARGUMENTS]
    return ToolResult(call.id, call.name, arguments, _INTERRUPTED, is_error=True, is_unknown=True)
