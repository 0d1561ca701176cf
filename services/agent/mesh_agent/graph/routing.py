"""Routes the graph after an answer: to the tools that it calls, or to the end."""

from typing import Literal

from langgraph.types import Send

from mesh_agent.graph.nodes import LAST_ROUND, tool_calls
from mesh_agent.graph.state import State


async def after_model(state: State) -> list[Send] | Literal["__end__"]:
    """A coroutine without await, because LangGraph runs a plain function in a thread each time."""
    messages = state["messages"]
    calls = tool_calls(messages[-1])
    if not calls or state["finish_reason"] == LAST_ROUND:
        return "__end__"
    return [
        Send("tools", {"call_index": index, "round": state["rounds"], "messages": messages[-1:]})
        for index in range(len(calls))
    ]
