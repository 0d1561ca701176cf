"""Runs a graph in code for one attempt: each of its steps is a safe point, and an event."""

import json
import traceback
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast

import structlog
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.types import Command, Interrupt
from mesh_common.errors import MeshError, PreconditionFailed

from mesh_agent.domain.attempts import LeaseLostError, Progress
from mesh_agent.domain.interrupts import DecidedCall, InterruptKind, Question
from mesh_agent.domain.runs import Usage
from mesh_agent.graph.budget import Budget
from mesh_agent.graph.coded.definitions import CodedGraph
from mesh_agent.graph.coded.recording import AGENT, Recording, in_order
from mesh_agent.graph.coded.run import SAID, CodedRun, Lent, answer_of
from mesh_agent.graph.nodes import tokens_spent
from mesh_agent.graph.progress import is_of_run, progress_in
from mesh_agent.graph.questions import with_unique_ids
from mesh_agent.graph.rounds import LoopInput, Rounds
from mesh_agent.llm.provider_errors import ProviderError
from mesh_agent.sdk.graph import Rejection
from mesh_agent.tools.call import to_json

log = structlog.get_logger()

# A graph that goes in circles is stopped.
_MAX_STEPS: Final = 200
# Keys of raw `interrupt()` calls; those of the mesh's own begin with the id of a task.
_RAW: Final = "interrupt:"
_MAX_QUESTION_CHARS: Final = 4_000


def progress_of(recorded: Sequence[Any], run_id: str) -> Progress:
    """What earlier attempts of the run have recorded. Texts of the user's answer alone are texts."""
    messages = [message for message in in_order(recorded) if is_of_run(message, run_id)]
    said = [message for message in messages if message.response_metadata.get(SAID) and message.content]
    return replace(
        progress_in(messages),
        texts=tuple(str(message.content) for message in said),
        # A graph in code writes one answer, paragraph by paragraph.
        is_one_message=not any(AGENT in message.response_metadata for message in said),
        billed_by_agent=_billed_by_agent(messages),
        agent=str(said[-1].response_metadata.get(AGENT, "")) if said else "",
    )


def _billed_by_agent(messages: Sequence[BaseMessage]) -> dict[str, Usage]:
    billed: dict[str, Usage] = {}
    for message in messages:
        if (cost := message.response_metadata.get("cost")) and AGENT in message.response_metadata:
            name = message.response_metadata[AGENT]
            billed[name] = billed.get(name, Usage()).plus(Usage(*cost))
    return billed


@dataclass(frozen=True, slots=True)
class Earlier:
    """What earlier attempts of the execution left: what they recorded, and whether there is a checkpoint."""

    recorded: Sequence[Any]
    is_begun: bool


async def run_coded(
    graph: CodedGraph, attempt: LoopInput, lent: Lent, earlier: Earlier, config: RunnableConfig
) -> str | tuple[Question, ...]:
    """As `AttemptLoop.run`. Raises InvalidInput if the configuration does not fit the graph, PreconditionFailed if the
    graph's code fails."""
    planned = attempt.plan.graph
    configured = graph.configured(planned.config_json if planned else "{}")
    lent.checkpoints.is_each_step_safe = True
    run_id = str(lent.checkpoints.claim.run_id)
    own = [one["message"] for one in earlier.recorded if is_of_run(one["message"], run_id)]
    asked = sum(isinstance(message, AIMessage) for message in own)
    budget = Budget(attempt.plan.limits, asked, tokens_spent(own, run_id))
    rounds = Rounds(lent.fallback, attempt, run_id, budget)
    run = CodedRun(attempt, rounds, lent, Recording(lent.checkpoints, earlier.recorded), configured)
    state, interrupts = await _streamed(graph, _input(graph, attempt, is_begun=earlier.is_begun), run, config)
    if interrupts:
        return with_unique_ids([question for one in interrupts for question in _questions(one)])
    if not lent.listener.answer and (answer := _answer_in(state)):
        lent.listener.say(answer)
    return str(state["finish_reason"]) if graph.is_built_in else "stop"


def _input(graph: CodedGraph, attempt: LoopInput, *, is_begun: bool) -> Any:
    if not is_begun:
        given = {"message": attempt.message, "messages": [HumanMessage(attempt.message)]}
        return {name: value for name, value in given.items() if name in graph.channels}
    answers = {
        decided.graph_id: _resume_value(decided)
        for decided in attempt.decided.values()
        if decided.call_key.startswith(_RAW)
    }
    return Command(resume=answers) if answers else None


async def _streamed(
    graph: CodedGraph, graph_input: Any, run: CodedRun, config: RunnableConfig
) -> tuple[Mapping[str, Any], list[Interrupt]]:
    """The final state, and what the graph asks."""
    state: Mapping[str, Any] = {}
    interrupts: list[Interrupt] = []
    try:
        parts = graph.compiled.astream(
            graph_input,
            {**config, "recursion_limit": _MAX_STEPS},
            context=run,
            stream_mode=["tasks", "values"],
            durability="sync",
        )
        # With several modes, each part comes with its mode.
        async for mode, part in cast("AsyncIterator[tuple[str, Any]]", parts):
            if mode == "values":
                state = part
                interrupts += part.get("__interrupt__", ())
            elif graph.is_built_in:
                pass
            elif "input" in part:
                run.listener.step_started(part["name"])
            elif not part.get("interrupts"):
                run.listener.step_finished(part["name"])
    except (MeshError, ProviderError, LeaseLostError):
        raise
    except Exception as error:
        # Without the error's text, which may quote what a user or a model said.
        where = "".join(traceback.format_tb(error.__traceback__))
        log.error("graph.crashed", graph=graph.name, error=type(error).__name__, traceback=where)  # noqa: TRY400
        raise PreconditionFailed("The graph's code failed.", reason="GRAPH_FAILED") from error
    return state, interrupts


def _answer_in(state: Mapping[str, Any]) -> str:
    """The text of a graph that has told the user nothing: `answer`, or the last message if a model wrote it."""
    if isinstance(answer := state.get("answer"), str):
        return answer
    messages: Sequence[BaseMessage] = state.get("messages") or ()
    last = messages[-1] if messages else None
    return str(last.text) if isinstance(last, AIMessage) else ""


def _questions(interrupt: Interrupt) -> list[Question]:
    """Those of the mesh's own, or the one of an `interrupt()` of the graph."""
    value = interrupt.value
    if isinstance(value, list) and all(isinstance(one, dict) and "call_key" in one for one in value):
        return [replace(Question(**one), kind=InterruptKind(one["kind"]), graph_id=interrupt.id) for one in value]
    schema = interrupt.response_schema if isinstance(interrupt.response_schema, dict) else {}
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return [
        Question(
            call_key=f"{_RAW}{interrupt.id}",
            kind=InterruptKind.QUESTION,
            call_id=f"ask_{interrupt.id[:16]}",
            tool="",
            arguments_json="{}",
            question=text.replace("\x00", "\ufffd")[:_MAX_QUESTION_CHARS],
            answer_schema_json=to_json(schema),
            graph_id=interrupt.id,
        )
    ]


def _resume_value(decided: DecidedCall) -> Any:
    answer = answer_of(decided)
    # Plain values only: LangGraph stores it.
    return {"rejected": True, "message": answer.message} if isinstance(answer, Rejection) else answer
