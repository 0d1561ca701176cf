"""What packages with graphs or tools of their own import. Everything else in `mesh_agent` may change with a release."""

from mesh_agent.sdk.graph import GraphDefinition, Rejection, Run, graph
from mesh_agent.sdk.tool import Call, ToolDefinition, ToolError, UnknownOutcomeError, tool

__all__ = [
    "Call",
    "GraphDefinition",
    "Rejection",
    "Run",
    "ToolDefinition",
    "ToolError",
    "UnknownOutcomeError",
    "graph",
    "tool",
]
