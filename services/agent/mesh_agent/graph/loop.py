"""The agent's interface to graphs: opens one attempt, reports earlier attempts' progress, and runs the plan's graph."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Final

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.types import Interrupt
from mesh_common.errors import PreconditionFailed

from mesh_agent.checkpoint import FENCE, BufferedSaver, RunCheckpoints
from mesh_agent.domain.attempts import Claim, Progress
from mesh_agent.domain.interrupts import InterruptKind, Question
from mesh_agent.graph.approval import review
from mesh_agent.graph.budget import Budget
from mesh_agent.graph.build import AgentGraph, build_graph
from mesh_agent.graph.coded.definitions import CodedGraph, CodedGraphs
from mesh_agent.graph.coded.loop import Earlier, progress_of, run_coded
from mesh_agent.graph.coded.run import Lent
from mesh_agent.graph.progress import is_of_run, progress_in
from mesh_agent.graph.questions import with_unique_ids
from mesh_agent.graph.rounds import CodedListener, LoopInput, Rounds
from mesh_agent.graph.state import RunContext
from mesh_agent.graph.structured import StructuredRounds
from mesh_agent.graph.team.graph import team_graph
from mesh_agent.graph.tool_calls import call_at_safe_point
from mesh_agent.lease import HeldLease
from mesh_agent.llm.fallback import FallbackModel
from mesh_agent.plans.plan import PlannedMember, PlannedTool, RunPlan
from mesh_agent.store.checkpoint_database import CheckpointDatabase
from mesh_agent.tools.registry import ToolRegistry

# Rounds have a limit of their own in the plan, so LangGraph's limit is reached only by a bug.
_STEPS_PER_ROUND: Final = 2
# The key under which LangGraph returns what was raised by `interrupt()`.
_INTERRUPTS: Final = "__interrupt__"

type GraphsOf = Callable[[BaseCheckpointSaver[Any]], CodedGraphs]


def no_graphs(_saver: BaseCheckpointSaver[Any]) -> CodedGraphs:
    return CodedGraphs()


class AgentLoop:
    """One per process. `graphs` are those in code that are installed here."""

    def __init__(
        self,
        database: CheckpointDatabase,
        fallback: FallbackModel,
        tools: ToolRegistry,
        graphs_of: GraphsOf = no_graphs,
    ) -> None:
        self.fallback = fallback
        self.tools = tools
        self._saver = BufferedSaver(database)
        self._graph = build_graph(self._saver)
        self.graphs = graphs_of(self._saver)
        self.team = team_graph(self._saver)
        self.is_enabled: Callable[[PlannedMember], bool] = lambda _: True
        """Whether a member of a team may work: the kill switch of assistants."""

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
        self._is_begun = False
        self._recorded: Sequence[Mapping[str, Any]] = ()
        self.checkpoints = checkpoints

    async def progress(self) -> Progress:
        """The progress of earlier attempts up to the last safe point; empty if there is none."""
        if self._claim.opens_execution:
            return Progress()
        self._recorded = await self.checkpoints.recorded()
        if self._recorded:
            # Of a graph in code, whose checkpoints come before what it records.
            self._is_begun = True
            return progress_of(self._recorded, str(self._claim.run_id))
        saved = await self._graph.aget_state(self._config)
        self._is_begun = saved.created_at is not None
        messages: list[BaseMessage] = saved.values.get("messages", [])
        done = [write for task in saved.tasks for write in (task.result or {}).get("messages", [])]
        self._has_progress = bool(messages)
        return progress_in([message for message in (*messages, *done) if self._is_own(message)])

    def _is_own(self, message: BaseMessage) -> bool:
        """Releases without interrupts left the run out: each execution had a single one."""
        return is_of_run(message, str(self._claim.run_id), str(self._claim.execution_id))

    async def run(self, attempt: LoopInput, listener: CodedListener) -> str | tuple[Question, ...]:
        """Returns the finish reason, or what a person is asked, which is then safe in the checkpoints. Continues from
        the last safe point if `progress` found one.

        Raises ProviderError, MeshError, LeaseLostError, and unexpected errors.
        """
        graph = self._coded_graph(attempt.plan)
        has_state = self._is_begun if graph else self._has_progress
        if self._claim.resumed_execution and not has_state:
            raise PreconditionFailed("The state of the interrupted run is not stored any more.", reason="STATE_LOST")
        if graph is None:
            return await self._run_built_in(attempt, listener)
        loop = self._loop
        lent = Lent(loop.fallback, loop.tools, self.checkpoints, listener, loop.is_enabled)
        earlier = Earlier(self._recorded, is_begun=self._is_begun)
        return await run_coded(graph, attempt, lent, earlier, self._config)

    def _coded_graph(self, plan: RunPlan) -> CodedGraph | None:
        """None for an assistant that is neither a graph in code nor a team."""
        if plan.graph:
            return self._loop.graphs.of(plan.graph)
        return self._loop.team if plan.team else None

    async def _run_built_in(self, attempt: LoopInput, listener: CodedListener) -> str | tuple[Question, ...]:
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

    def _context(self, attempt: LoopInput, listener: CodedListener) -> RunContext:
        rounds = Rounds(self._loop.fallback, attempt, str(self._claim.run_id), Budget(attempt.plan.limits))
        prompt = attempt.plan.instructions.prompt
        form = attempt.plan.parameters.response_format_json
        structured = StructuredRounds(rounds, listener, form) if form else None

        async def ask(messages: list[BaseMessage], tools: Sequence[PlannedTool]) -> AIMessage:
            if structured:
                return await structured.ask(messages, tools, prompt)
            return await rounds.ask(listener, messages, tools, prompt)

        return RunContext(
            message=attempt.message,
            plan=attempt.plan,
            models=attempt.models,
            recall=attempt.recall,
            recent_messages=attempt.recent_messages,
            ask=ask,
            review=partial(review, self._loop.tools, attempt.plan.tools),
            call_tool=partial(call_at_safe_point, self._loop.tools, attempt.plan.tools, self.checkpoints, listener),
            run_id=str(self._claim.run_id),
            decided=attempt.decided,
        )


def _questions(interrupts: Sequence[Interrupt]) -> tuple[Question, ...]:
    """In the order of the calls."""
    asked = [
        replace(Question(**one.value), kind=InterruptKind(one.value["kind"]), graph_id=one.id) for one in interrupts
    ]
    asked.sort(key=lambda question: [int(part) for part in question.call_key.split(":")])
    return with_unique_ids(asked)
