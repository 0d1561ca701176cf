"""The nodes of the graph: model and tools. The run's context provides everything external."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage
from langgraph.runtime import Runtime
from langgraph.types import interrupt

from mesh_agent.domain.interrupts import DecidedCall, Question
from mesh_agent.graph.state import RunContext, State, ToolTask
from mesh_agent.graph.tool_calls import RUN, result_message
from mesh_agent.graph.window import fitting_prompt, window
from mesh_agent.tools.call import ToolCall

LAST_ROUND = "tool_rounds"
"""The finish reason of an answer after which the model is not asked again, whatever tools it calls."""
MAX_CALLS = 8
"""Maximum number of tool calls in one answer; more at once do not help a model."""
_UNREADABLE = "The arguments cannot be read, and the call was not made."
_FINISH_REASONS = ("stop", "length", "content_filter")


async def model(state: State, *, runtime: Runtime[RunContext]) -> State:
    context = runtime.context
    rounds = state["rounds"] + 1
    opening = await _window(context) if rounds == 1 else []
    is_last = rounds >= context.plan.limits.rounds or _is_spent(state["messages"], context)
    answer = await context.ask([*state["messages"], *opening], () if is_last else context.plan.tools)
    finish_reason = LAST_ROUND if is_last else known_finish_reason(answer)
    return {"messages": [*opening, answer], "rounds": rounds, "finish_reason": finish_reason}


def known_finish_reason(answer: AIMessage) -> str:
    reason: str = answer.response_metadata["finish_reason"]
    return reason if reason in _FINISH_REASONS else "stop"


def _is_spent(messages: Sequence[BaseMessage], context: RunContext) -> bool:
    limit = context.plan.limits.tokens
    return limit is not None and tokens_spent(messages, context.run_id) >= limit


def tokens_spent(messages: Iterable[BaseMessage], run_id: str) -> int:
    """Read and written in the rounds of the run whose answers are among the messages."""
    costs = (message.response_metadata for message in messages if isinstance(message, AIMessage))
    return sum(sum(cost["cost"][:2]) for cost in costs if "cost" in cost and cost.get(RUN) == run_id)


async def _window(context: RunContext) -> list[BaseMessage]:
    memories = [memory.text for memory in await context.recall()]
    budget_tokens = max(model.input_budget_tokens for model in context.models)
    return window(
        fitting_prompt(context.plan.instructions.prompt, memories, context.message, budget_tokens),
        await context.recent_messages(),
        context.message,
        history_tokens=context.plan.history_tokens,
        budget_tokens=budget_tokens,
    )


async def tools(state: ToolTask, *, runtime: Runtime[RunContext]) -> dict[str, Any]:
    """Executes one call of the last answer. Each call is a separate task, so that its result is stored immediately."""
    answer = state["messages"][-1]
    index = state["call_index"]
    # A pending task from an earlier release has no round.
    key = f"{state.get('round', 0)}:{index}"
    context = runtime.context
    reviewed = context.review(tool_calls(answer)[index], key)
    decided = _decided(context, reviewed.question)
    async with context.order.entering(is_parallel=reviewed.is_parallel):
        result = await context.call_tool(reviewed.call, key, decided)
    return {"messages": [result_message(result, context.run_id, decided)]}


def _decided(context: RunContext, question: Question | None) -> DecidedCall | None:
    """What a person decided, if the call needs that. Ends the task with an interrupt if nobody has.

    Decisions are found by the key of the call, which is ours, and not by LangGraph's ids of interrupts, which another
    version of it may compute in another way.
    """
    if question is None:
        return None
    decided = context.decided.get(question.call_key)
    if decided is None or not decided.is_about(question):
        # Plain values only, as checkpoints allow no others.
        interrupt({**asdict(question), "kind": question.kind.value})
    return decided


def tool_calls(message: Any) -> list[ToolCall]:
    """The calls that the model requests, including those that must not be made. Their result is the reason."""
    if not isinstance(message, AIMessage):
        return []
    valid = [
        ToolCall(call["id"] or f"call_{index}", call["name"], call["args"])
        for index, call in enumerate(message.tool_calls)
    ]
    broken = [
        ToolCall(
            call["id"] or f"invalid_{index}",
            call["name"] or "",
            {"unreadable": call["args"]},
            fault=call["error"] or _UNREADABLE,
        )
        for index, call in enumerate(message.invalid_tool_calls)
    ]
    return [*valid, *broken]
