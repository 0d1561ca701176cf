"""The agent's interface to the graph: opens it for one attempt, reports earlier attempts' progress, and runs it."""

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, Protocol

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.types import Interrupt
from mesh_common.errors import PreconditionFailed

from mesh_agent.checkpoint import FENCE, BufferedSaver, RunCheckpoints
from mesh_agent.domain import (
    Claim,
    CutRound,
    DecidedCall,
    InterruptKind,
    Progress,
    Question,
    RecalledMemory,
    Said,
    ToolResult,
    Usage,
)
from mesh_agent.graph.approval import review
from mesh_agent.graph.build import AgentGraph, build_graph
from mesh_agent.graph.nodes import MAX_CALLS, RUN
from mesh_agent.graph.state import RunContext
from mesh_agent.graph.tool_calls import ToolListener, call_at_safe_point
from mesh_agent.graph.window import RunWindow
from mesh_agent.lease import HeldLease
from mesh_agent.llm.completion import AnswerFullError
from mesh_agent.llm.fallback import FallbackModel, ModelListener, Round
from mesh_agent.llm.finish_reasons import Finish
from mesh_agent.llm.registry import Model
from mesh_agent.plans.plan import PlannedTool, RunPlan
from mesh_agent.store.checkpoint_database import CheckpointDatabase
from mesh_agent.tools.registry import ToolRegistry

# Rounds have a limit of their own in the plan, so LangGraph's limit is reached only by a bug.
_STEPS_PER_ROUND: Final = 2
# The key under which LangGraph returns what was raised by `interrupt()`.
_INTERRUPTS: Final = "__interrupt__"


class Listener(ToolListener, ModelListener, Protocol):
    """Receives the progress of the run."""

    def begin_round(self, prompt_tokens: Callable[[], int]) -> None: ...
    def end_round(self, usage: Usage) -> None: ...
    def cut_round(self) -> CutRound:
        """Instead of `end_round`, after AnswerFullError."""


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
    decided: Mapping[str, DecidedCall] = field(default_factory=dict)


class AgentLoop:
    """One per process."""

    def __init__(self, database: CheckpointDatabase, fallback: FallbackModel, tools: ToolRegistry) -> None:
        self.fallback = fallback
        self.tools = tools
        self._saver = BufferedSaver(database)
        self._graph = build_graph(self._saver)

    @asynccontextmanager
    async def open(self, claim: Claim, lease: HeldLease) -> AsyncIterator["AttemptLoop"]:
        async with self._saver.open(claim, lease) as checkpoints:
            yield AttemptLoop(self, self._graph, claim, checkpoints)


class AttemptLoop:
    def __init__(self, loop: AgentLoop, graph: AgentGraph, claim: Claim, checkpoints: RunCheckpoints) -> None:
        self._loop = loop
        self._graph = graph
        self._claim = claim
        self._config: RunnableConfig = {
            "configurable": {"thread_id": str(claim.execution_id), FENCE: claim.fence},
        }
        self._has_progress = False
        self.checkpoints = checkpoints

    async def progress(self) -> Progress:
        """The progress of earlier attempts up to the last safe point; empty if there is none."""
        if self._claim.opens_execution:
            return Progress()
        saved = await self._graph.aget_state(self._config)
        messages: list[BaseMessage] = saved.values.get("messages", [])
        done = [write for task in saved.tasks for write in (task.result or {}).get("messages", [])]
        self._has_progress = bool(messages)
        return _progress([message for message in (*messages, *done) if self._is_own(message)])

    def _is_own(self, message: BaseMessage) -> bool:
        """Whether this run made the message, and not the run that it resumes. Releases without interrupts left the run
        out."""
        return bool(message.response_metadata.get(RUN, str(self._claim.execution_id)) == str(self._claim.run_id))

    async def run(self, attempt: LoopInput, listener: Listener) -> str | tuple[Question, ...]:
        """Returns the finish reason, or what a person is asked, which is then safe in the checkpoints. Continues from
        the last safe point if `progress` found one.

        Raises ProviderError, MeshError, LeaseLostError, and unexpected errors.
        """
        if self._claim.resumed_execution and not self._has_progress:
            raise PreconditionFailed("The state of the interrupted run is not stored any more.", reason="STATE_LOST")
        state = await self._graph.ainvoke(
            None if self._has_progress else {"rounds": 0},
            {**self._config, "recursion_limit": _STEPS_PER_ROUND * (attempt.plan.limits.rounds + 1)},
            context=self._context(attempt, listener),
            durability="sync",
        )
        if interrupts := state.get(_INTERRUPTS):
            await self.checkpoints.flush()
            return _questions(interrupts)
        finish_reason: str = state["finish_reason"]
        return finish_reason

    def _context(self, attempt: LoopInput, listener: Listener) -> RunContext:
        return RunContext(
            message=attempt.message,
            plan=attempt.plan,
            models=attempt.models,
            recall=attempt.recall,
            recent_messages=attempt.recent_messages,
            ask=partial(_ask, self._loop.fallback, attempt, listener, str(self._claim.run_id)),
            review=partial(review, self._loop.tools, attempt.plan.tools),
            call_tool=partial(call_at_safe_point, self._loop.tools, attempt.plan.tools, self.checkpoints, listener),
            run_id=str(self._claim.run_id),
            decided=attempt.decided,
        )


async def _ask(
    fallback: FallbackModel,
    attempt: LoopInput,
    listener: Listener,
    run_id: str,
    messages: list[BaseMessage],
    tools: Sequence[PlannedTool],
) -> AIMessage:
    """One round. Its cost is stored with the answer, for an attempt that may continue from here."""
    window = RunWindow(messages, attempt.plan.instructions.prompt)
    asked = Round(window, [tool.schema for tool in tools], listener, attempt.deadline_s)
    listener.begin_round(asked.input_tokens)
    try:
        answer = await fallback.answer(attempt.models, asked)
    except AnswerFullError:
        cut = listener.cut_round()
        return _with_cost(AIMessage(cut.text), Finish.LENGTH.value, cut.model, cut.usage, run_id)
    listener.end_round(answer.usage)
    message = _with_cost(answer.message, answer.finish_reason, answer.model.name, answer.usage, run_id)
    # Calls beyond the limit are removed, because providers reject a request in which not all calls are answered.
    message.tool_calls = message.tool_calls[:MAX_CALLS]
    message.invalid_tool_calls = message.invalid_tool_calls[: MAX_CALLS - len(message.tool_calls)]
    return message


def _with_cost(message: AIMessage, finish_reason: str, model: str, usage: Usage, run_id: str) -> AIMessage:
    message.response_metadata = {
        "finish_reason": finish_reason,
        "model": model,
        "cost": [usage.input_tokens, usage.output_tokens, usage.cost_micro_usd],
        RUN: run_id,
    }
    return message


def _questions(interrupts: Sequence[Interrupt]) -> tuple[Question, ...]:
    """In the order of the calls. The calls of one answer may have the same id, by which people decide."""
    asked = [
        replace(Question(**one.value), kind=InterruptKind(one.value["kind"]), graph_id=one.id) for one in interrupts
    ]
    asked.sort(key=lambda question: [int(part) for part in question.call_key.split(":")])
    ids = [question.call_id for question in asked]
    return tuple(
        replace(question, call_id=f"{question.call_id}#{question.call_key}")
        if question.call_id in ids[:index]
        else question
        for index, question in enumerate(asked)
    )


def _progress(messages: Sequence[BaseMessage]) -> Progress:
    """The progress in the tool loop's messages. Answers have a cost; messages of the thread's history do not."""
    answers = [
        message for message in messages if isinstance(message, AIMessage) and "cost" in message.response_metadata
    ]
    # By call, because LangGraph returns the results of an incomplete step both in the state and with its tasks.
    results = {message.tool_call_id: _result(message) for message in messages if isinstance(message, ToolMessage)}
    return Progress(
        texts=tuple(str(answer.content) for answer in answers if answer.content),
        tool_results=tuple(results.values()),
        billed=_billed(answers),
        model=_model_of(answers[-1]) if answers else "",
    )


def _billed(answers: Sequence[AIMessage]) -> dict[str, Usage]:
    billed: dict[str, Usage] = {}
    for answer in answers:
        name = _model_of(answer)
        billed[name] = billed.get(name, Usage()).plus(Usage(*answer.response_metadata["cost"]))
    return billed


def _model_of(answer: AIMessage) -> str:
    """Empty for an answer that release 0.1.0 stored."""
    name: str = answer.response_metadata.get("model", "")
    return name


def _result(message: ToolMessage) -> ToolResult:
    is_unknown = bool(message.response_metadata.get("is_unknown"))
    is_error = message.status == "error"
    return ToolResult(message.tool_call_id, message.name or "", "", str(message.content), is_error, is_unknown)
