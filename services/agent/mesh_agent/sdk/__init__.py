"""What packages with graphs of their own import. Everything else in `mesh_agent` may change from release to release."""

from mesh_agent.sdk.graph import GraphDefinition, Rejection, Run, graph

__all__ = ["GraphDefinition", "Rejection", "Run", "graph"]
