"""What the graph carries from node to node, and what a run gives it."""

import operator
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol, TypedDict

from langchain_core.messages import AIMessage, BaseMessage

from mesh_agent.domain import RecalledMemory, Said, ToolResult
from mesh_agent.llm.registry import Model
from mesh_agent.plans.plan import PlannedTool, RunPlan
from mesh_agent.tools.call import ToolCall


class State(TypedDict, total=False):
    """`messages` is the trimmed window and the tool loop of this run; the thread's truth is in the database."""

    messages: Annotated[list[BaseMessage], operator.add]
    rounds: int
    finish_reason: str


class ToolTask(TypedDict):
    """What one task of the tools node is given: the call, by its round and its place in that round's answer."""

    call_index: int
    round: int
    messages: list[BaseMessage]


class AskModel(Protocol):
    """One round; the answer's `response_metadata` has its `finish_reason`."""

    async def __call__(self, messages: list[BaseMessage], tools: Sequence[PlannedTool]) -> AIMessage: ...


@dataclass(frozen=True, slots=True)
class RunContext:
    """What one attempt lends the graph. `models` are those of the plan that are here.

    `call_tool` makes what happened so far survive this process before it calls.
    """

    message: str
    plan: RunPlan
    models: tuple[Model, ...]
    recall: Callable[[], Awaitable[Sequence[RecalledMemory]]]
    recent_messages: Callable[[], Awaitable[Sequence[Said]]]
    ask: AskModel
    call_tool: Callable[[ToolCall, str], Awaitable[ToolResult]]
    """With the call's key, unique within the run, where the model's ids may repeat."""
