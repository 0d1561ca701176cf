"""The graph: model → tools → model … → end.

The model's first step also prepares the memories and the window of the run: each step of the graph costs a third of a
millisecond, and no run resumes between them.
"""

from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from mesh_agent.graph import nodes
from mesh_agent.graph.routing import after_model
from mesh_agent.graph.state import RunContext, State, ToolTask

AgentGraph = CompiledStateGraph[State, RunContext, State, State]


def build_graph(checkpointer: BaseCheckpointSaver[Any] | None = None) -> AgentGraph:
    builder: StateGraph[State, RunContext, State, State] = StateGraph(State, context_schema=RunContext)
    builder.add_node("model", nodes.model)
    builder.add_node("tools", nodes.tools, input_schema=ToolTask)
    builder.add_edge(START, "model")
    builder.add_conditional_edges("model", after_model, ["tools", END])
    builder.add_edge("tools", "model")
    return builder.compile(checkpointer=checkpointer)
