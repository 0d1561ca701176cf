"""One round: a model is asked, and its answer is billed and carries its cost."""

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from langchain_core.messages import AIMessage, BaseMessage

from mesh_agent.domain.attempts import CutRound
from mesh_agent.domain.interrupts import DecidedCall
from mesh_agent.domain.runs import Usage
from mesh_agent.domain.threads import RecalledMemory, Said
from mesh_agent.graph.budget import Budget
from mesh_agent.graph.nodes import MAX_CALLS
from mesh_agent.graph.tool_calls import RUN, ToolListener
from mesh_agent.graph.window import RunWindow
from mesh_agent.llm.completion import AnswerFullError
from mesh_agent.llm.fallback import FallbackModel, ModelListener, Round
from mesh_agent.llm.finish_reasons import Finish
from mesh_agent.llm.registry import Model
from mesh_agent.plans.plan import PlannedModel, PlannedTool, RunPlan
from mesh_agent.tools.call import ToolCall


class RoundListener(ModelListener, Protocol):
    """Receives the progress of rounds, one at a time."""

    def begin_round(self, prompt_tokens: Callable[[], int]) -> None: ...
    def end_round(self, usage: Usage) -> None: ...
    def fail_round(self) -> None: ...
    def cut_round(self) -> CutRound:
        """Instead of `end_round`, after AnswerFullError."""


class Listener(ToolListener, RoundListener, Protocol):
    """Receives the progress of the run."""


class CodedListener(Listener, Protocol):
    """Receives the progress of a run of a graph in code, too."""

    def aside(self) -> RoundListener:
        """Receives the rounds of an answer that is no part of the run's."""

    def say(self, text: str) -> None:
        """A text that no model wrote. Raises AnswerFullError."""

    def step_started(self, step: str) -> None: ...
    def step_finished(self, step: str) -> None: ...
    def custom(self, name: str, data_json: str) -> None: ...
    def member(self, name: str) -> "CodedListener":
        """Receives the progress of an agent of a team. Its rounds `aside` are streamed as those of the member."""

    def repeat_aside(self, text: str, model: str) -> None:
        """A text `aside` that an earlier attempt has recorded."""

    def tool_paused(self, call: ToolCall) -> None:
        """A call has started and continues in the run that resumes this one."""

    @property
    def answer(self) -> str:
        """The text sent to the user so far."""


@dataclass(frozen=True, slots=True)
class LoopInput:
    """The input of one attempt. `models` are the plan's models that this replica has, in the order they are tried.

    `deadline_s` is the end of the attempt in the event loop's time.
    """

    message: str
    plan: RunPlan
    models: tuple[Model, ...]
    recall: Callable[[], Awaitable[Sequence[RecalledMemory]]]
    recent_messages: Callable[[], Awaitable[Sequence[Said]]]
    deadline_s: float = math.inf
    models_of: Callable[[Sequence[PlannedModel]], tuple[Model, ...]] = lambda _: ()
    """Those of another agent's plan. Raises Unavailable if none of them is here."""
    last_agent: Callable[[], Awaitable[str]] | None = None
    """The agent of a team that wrote the thread's last answer; empty for the thread's own assistant."""
    decided: Mapping[str, DecidedCall] = field(default_factory=dict)


type Prompt = Callable[[Sequence[str]], str]
"""Renders the system message with these memories."""


class Rounds:
    """The rounds of one attempt."""

    def __init__(self, fallback: FallbackModel, attempt: LoopInput, run_id: str, budget: Budget) -> None:
        self._fallback = fallback
        self._attempt = attempt
        self._run_id = run_id
        self.budget = budget

    def of(self, attempt: LoopInput) -> "Rounds":
        """Those of another agent of the run, from the same budget."""
        return Rounds(self._fallback, attempt, self._run_id, self.budget)

    async def ask(
        self,
        listener: RoundListener,
        messages: list[BaseMessage],
        tools: Sequence[PlannedTool],
        prompt: Prompt,
    ) -> AIMessage:
        """The answer, with its cost, for an attempt that may continue from here. `prompt` renders the system message
        with fewer memories."""
        asked = Round(
            RunWindow(messages, prompt),
            [tool.schema for tool in tools],
            listener,
            self._attempt.deadline_s,
            self._attempt.plan.parameters,
        )
        listener.begin_round(asked.input_tokens)
        try:
            answer = await self._fallback.answer(self._attempt.models, asked)
        except AnswerFullError:
            cut = listener.cut_round()
            return self._with_cost(AIMessage(cut.text), Finish.LENGTH.value, cut.model, cut.usage)
        listener.end_round(answer.usage)
        self.budget.spend(answer.usage)
        message = self._with_cost(answer.message, answer.finish_reason, answer.model.name, answer.usage)
        # Calls beyond the limit are removed, because providers reject a request in which not all calls are answered.
        message.tool_calls = message.tool_calls[:MAX_CALLS]
        message.invalid_tool_calls = message.invalid_tool_calls[: MAX_CALLS - len(message.tool_calls)]
        return message

    def _with_cost(self, message: AIMessage, finish_reason: str, model: str, usage: Usage) -> AIMessage:
        message.response_metadata = {
            "finish_reason": finish_reason,
            "model": model,
            "cost": [usage.input_tokens, usage.output_tokens, usage.cost_micro_usd],
            RUN: self._run_id,
        }
        return message
