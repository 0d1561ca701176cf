"""Finds the graphs of installed packages: the entry points of the group `mesh.graphs`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph.state import CompiledStateGraph
from mesh_common.errors import FieldFault, InvalidInput, PreconditionFailed
from pydantic import BaseModel, ValidationError

from mesh_agent.entry_points import GRAPHS, usable
from mesh_agent.metrics import GRAPHS_UNUSABLE
from mesh_agent.plans.plan import PlannedGraph
from mesh_agent.sdk.graph import GraphDefinition

type CompiledGraph = CompiledStateGraph[Any, Any, Any, Any]


@dataclass(frozen=True, slots=True)
class CodedGraph:
    """`channels` are the keys of its state. `is_built_in`: a part of the agent, whose steps mean nothing to users."""

    name: str
    compiled: CompiledGraph
    channels: frozenset[str]
    config: type[BaseModel] | None
    is_built_in: bool = False

    def configured(self, config_json: str) -> BaseModel | None:
        """Raises InvalidInput with the path of each fault."""
        if self.config is None:
            if config_json not in {"", "{}"}:
                raise InvalidInput.of_field("graph.config", "must be empty: this graph takes no configuration")
            return None
        try:
            return self.config.model_validate_json(config_json or "{}")
        except ValidationError as error:
            fault = error.errors(include_url=False, include_input=False)[0]
            path = ".".join(map(str, ("graph.config", *fault["loc"])))
            raise InvalidInput.of_field(path, fault["msg"]) from error
        except Exception as error:
            # The model's validators are anybody's code. The text may quote what an assistant configures.
            failed = f"the graph's own check failed: {type(error).__name__}"
            raise InvalidInput.of_field("graph.config", failed) from error


class CodedGraphs:
    """The graphs of this process, by the names of their entry points."""

    def __init__(self, graphs: Iterable[CodedGraph] = ()) -> None:
        self._by_name: Mapping[str, CodedGraph] = {graph.name: graph for graph in graphs}

    def fault(self, name: str, config_json: str) -> FieldFault | None:
        """Why a run could not use the graph; None if it could."""
        found = self._by_name.get(name)
        if found is None:
            return FieldFault(
                "graph.name", f"there is no graph {name!r}; installed are: {', '.join(self.names) or '-'}"
            )
        try:
            found.configured(config_json)
        except InvalidInput as invalid:
            return invalid.fields[0]
        return None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._by_name)

    def find(self, name: str) -> CodedGraph | None:
        return self._by_name.get(name)

    def of(self, planned: PlannedGraph) -> CodedGraph:
        """Raises PreconditionFailed for a graph that is not installed on this replica."""
        found = self.find(planned.name)
        if found is None:
            raise PreconditionFailed(f"The graph {planned.name!r} is not installed.", reason="GRAPH_UNAVAILABLE")
        return found


def installed_graphs(saver: BaseCheckpointSaver[Any]) -> CodedGraphs:
    """Loads all entry points. One that fails is logged and counted, and the others are used.

    Imports the packages, which may take seconds.
    """
    load = partial(_loaded, saver)
    return CodedGraphs(usable(GRAPHS, load, unusable=GRAPHS_UNUSABLE, event="graph.unusable"))


def _loaded(saver: BaseCheckpointSaver[Any], point: EntryPoint) -> CodedGraph:
    definition = point.load()
    if not isinstance(definition, GraphDefinition):
        raise TypeError("the entry point is not made by mesh_agent.sdk.graph")
    builder = definition.build()
    compiled = builder.compile(checkpointer=saver, name=point.name)
    return CodedGraph(point.name, compiled, frozenset(builder.channels), definition.config)
