"""The state that the graph passes between nodes, and the context of a run."""

import operator
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Protocol, TypedDict

from langchain_core.messages import AIMessage, BaseMessage

from mesh_agent.domain.interrupts import DecidedCall
from mesh_agent.domain.threads import RecalledMemory, Said
from mesh_agent.domain.tools import ToolResult
from mesh_agent.graph.approval import Reviewed
from mesh_agent.graph.call_order import CallOrder
from mesh_agent.llm.registry import Model
from mesh_agent.plans.plan import PlannedTool, RunPlan
from mesh_agent.tools.call import ToolCall


class State(TypedDict, total=False):
    """`messages` is the trimmed window and the tool loop of this run; the database has the authoritative thread."""

    messages: Annotated[list[BaseMessage], operator.add]
    rounds: int
    finish_reason: str


class ToolTask(TypedDict):
    """The input of one task of the tools node: the call, by its round and its index in that round's answer."""

    call_index: int
    round: int
    messages: list[BaseMessage]


class AskModel(Protocol):
    """Runs one round. The answer's `response_metadata` has its `finish_reason`."""

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
    review: Callable[[ToolCall, str], Reviewed]
    """Called with the call's key, which is unique within the execution; the model's ids may repeat."""
    call_tool: Callable[[ToolCall, str, DecidedCall | None], Awaitable[ToolResult]]
    run_id: str = ""
    decided: Mapping[str, DecidedCall] = field(default_factory=dict)
    """What a person decided about calls, by their keys. Only in a run that resumes another one."""
    order: CallOrder = field(default_factory=CallOrder)
