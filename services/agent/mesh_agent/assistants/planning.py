"""What a run of an assistant may do: its description, applied to the models, tools and graphs of this process."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol
from uuid import UUID

from mesh_common.assistant import NamedAssistantSpec, Tool
from mesh_common.errors import FieldFault

from mesh_agent.assistants.model import RunnableAssistant
from mesh_agent.domain.tools import Approval
from mesh_agent.plans.plan import (
    Instructions,
    Limits,
    MemoryPolicy,
    ModelParameters,
    Origin,
    PlannedGraph,
    PlannedModel,
    PlannedTool,
    RunPlan,
)
from mesh_agent.tool_server_settings import SEPARATOR
from mesh_agent.tools.call import to_json
from mesh_agent.tools.schema import answer_schema_fault

_STRICTNESS: Final = {Approval.NEVER: 0, Approval.ON_EFFECT: 1, Approval.ALWAYS: 2}
# A graph asks models as often as its steps need, and a team as often as its members need.
_ROUNDS_OF_MANY: Final = 50


class Graphs(Protocol):
    """The graphs in code that are installed here."""

    def fault(self, name: str, config_json: str) -> FieldFault | None:
        """Why a run could not use the graph; None if it could."""


@dataclass(frozen=True, slots=True)
class Planner:
    """`base` is the plan of an assistant that describes nothing: all models and tools of this process."""

    base: Callable[[], RunPlan]
    graphs: Graphs
    tool_servers: tuple[str, ...] = ()
    """Names of the servers whose tools an assistant may name although they are not known yet."""

    def faults(self, spec: NamedAssistantSpec) -> Iterator[FieldFault]:
        """What the description names and this process does not have."""
        base = self.base()
        models = {model.name for model in base.models}
        tools = {tool.name for tool in base.tools}
        for index, name in enumerate(spec.models):
            if name not in models:
                yield FieldFault(f"models.{index}", f"there is no model {name!r}; GET /api/v1/models lists them")
        for index, tool in enumerate(spec.tools or ()):
            if tool.name not in tools and tool.name.partition(SEPARATOR)[0] not in self.tool_servers:
                yield FieldFault(f"tools.{index}", f"there is no tool {tool.name!r}")
        for name in spec.unknown_variables():
            yield FieldFault("instructions", f"uses ${name}, which `variables` does not define")
        if (form := spec.parameters.response_format) and (text := answer_schema_fault(form.schema_of_answer)):
            yield FieldFault("parameters.response_format.json_schema.schema", text)
        if spec.graph and (fault := self.graphs.fault(spec.graph.name, to_json(spec.graph.config))):
            yield fault

    def runnable(self, spec: NamedAssistantSpec, version: str, id_: UUID | None = None) -> RunnableAssistant:
        """Without its members."""
        plan = self.plan(spec, version)
        return RunnableAssistant(spec.name, version, plan, id_, spec.kind, spec.description, spec.members)

    def plan(self, spec: NamedAssistantSpec, version: str) -> RunPlan:
        """Leaves out what this process does not have. An assistant whose models are all gone keeps none, and no run of
        it starts."""
        base = self.base()
        return replace(
            base,
            instructions=_instructions(spec, base.instructions),
            models=tuple(_models(spec, base.models)),
            tools=tuple(_tools(spec.tools, base.tools)),
            memory=MemoryPolicy(recalls=spec.memory != "off", remembers=spec.memory == "recall_and_remember"),
            limits=_limits(spec, base.limits),
            origin=Origin(spec.name, version),
            graph=PlannedGraph(spec.graph.name, to_json(spec.graph.config)) if spec.graph else None,
            parameters=ModelParameters(
                spec.parameters.temperature,
                spec.parameters.top_p,
                spec.parameters.stop,
                spec.parameters.seed,
                spec.parameters.reasoning_effort,
                form.as_json() if (form := spec.parameters.response_format) else None,
            ),
        )


def _instructions(spec: NamedAssistantSpec, base: Instructions) -> Instructions:
    if spec.instructions is None:
        return replace(base, variables=tuple(sorted(spec.variables.items()))) if spec.variables else base
    system = spec.instructions
    if "$memories" not in system and "${memories}" not in system:
        system = f"{system}\n$memories"
    return Instructions(system, base.memories, tuple(sorted(spec.variables.items())))


def _models(spec: NamedAssistantSpec, base: Sequence[PlannedModel]) -> Iterator[PlannedModel]:
    by_name = {model.name: model for model in base}
    for name in dict.fromkeys(spec.models or by_name):
        if model := by_name.get(name):
            limit = spec.parameters.max_output_tokens or model.max_output_tokens
            yield replace(model, max_output_tokens=min(limit, model.max_output_tokens))


def _tools(rules: Sequence[Tool] | None, base: Sequence[PlannedTool]) -> Iterator[PlannedTool]:
    if rules is None:
        yield from base
        return
    by_name = {tool.name: tool for tool in base}
    for rule in rules:
        if tool := by_name.get(rule.name):
            by_name[rule.name] = _stricter(tool, rule)
    # A tool that is named twice has both rules.
    yield from (by_name[name] for name in dict.fromkeys(rule.name for rule in rules) if name in by_name)


def _stricter(tool: PlannedTool, rule: Tool) -> PlannedTool:
    approval = max(tool.approval, Approval(rule.approval or Approval.NEVER), key=_STRICTNESS.__getitem__)
    return replace(tool, approval=approval, timeout_s=min(tool.timeout_s, rule.timeout_s or tool.timeout_s))


def _limits(spec: NamedAssistantSpec, base: Limits) -> Limits:
    """The service's time limit holds for all assistants."""
    rounds = _ROUNDS_OF_MANY if spec.graph or spec.members else base.rounds
    return Limits(
        rounds=spec.limits.rounds or rounds,
        seconds=min(spec.limits.seconds or base.seconds, base.seconds),
        tokens=spec.limits.tokens,
    )
