"""The stored form of a plan: JSON under its own SHA-256, readable by the previous and the next release.

A reader ignores unknown fields and uses the default of missing ones. Any other change needs a new `format`, which one
release must be able to read before the next one writes it.

Tools whose calls need approval are stored as `guarded_tools`, which releases without approvals ignore: a replica of
such a release, which would not ask, then does not have these tools. The models of a graph in code and of a team are
stored apart as well: a release without such graphs or teams finds none, and fails the run in place of running another
graph.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final

import orjson

from mesh_agent.domain.tools import Approval, Effect
from mesh_agent.plans.plan import (
    Instructions,
    Limits,
    MemoryPolicy,
    ModelParameters,
    Origin,
    PlannedGraph,
    PlannedMember,
    PlannedModel,
    PlannedTeam,
    PlannedTool,
    RunPlan,
    TeamKind,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class StoredPlan:
    """Plans of the same content have the same hash."""

    plan: RunPlan
    hash: bytes
    data: bytes


def stored(plan: RunPlan) -> StoredPlan:
    data = orjson.dumps({"format": _FORMAT, **_content(plan)})
    return StoredPlan(plan, hashlib.sha256(data).digest(), data)


def _content(plan: RunPlan) -> dict[str, Any]:
    guarded = tuple(tool for tool in plan.tools if tool.needs_approval)
    free = tuple(tool for tool in plan.tools if not tool.needs_approval)
    shown = replace(plan, tools=free) if guarded else plan
    content: dict[str, Any] = {"plan": shown}
    if guarded:
        content["guarded_tools"] = guarded
    if plan.graph:
        content["plan"] = replace(shown, models=(), graph=None)
        content["coded"] = {"graph": plan.graph, "models": plan.models}
    if plan.team:
        content["plan"] = replace(shown, models=(), team=None)
        content["team"] = {
            "kind": plan.team.kind,
            "models": plan.models,
            "members": [
                {"name": one.name, "description": one.description, "id": one.id, **_content(one.plan)}
                for one in plan.team.members
            ],
        }
    return content


def loaded(data: bytes) -> RunPlan:
    return _plan(orjson.loads(data))


def _plan(content: Mapping[str, Any]) -> RunPlan:
    parts = content["plan"]
    plan = _known(RunPlan, {name: _PARTS[name](value) if name in _PARTS else value for name, value in parts.items()})
    if coded := content.get("coded"):
        plan = replace(plan, graph=_known(PlannedGraph, coded["graph"]), models=_models(coded["models"]))
    if team := content.get("team"):
        members = tuple(
            PlannedMember(one["name"], one["description"], _plan(one), one.get("id", "")) for one in team["members"]
        )
        plan = replace(plan, team=PlannedTeam(TeamKind(team["kind"]), members), models=_models(team["models"]))
    guarded = tuple(map(_guarded_tool, content.get("guarded_tools", ())))
    return replace(plan, tools=plan.tools + guarded) if guarded else plan


def _models(content: Sequence[Mapping[str, Any]]) -> tuple[PlannedModel, ...]:
    return tuple(_known(PlannedModel, model) for model in content)


def _known[T: DataclassInstance](kind: type[T], content: Mapping[str, Any]) -> T:
    names = {field.name for field in fields(kind)}
    return kind(**{name: value for name, value in content.items() if name in names})


def _instructions(content: Mapping[str, Any]) -> Instructions:
    variables = tuple((name, value) for name, value in content.get("variables", ()))
    return _known(Instructions, {**content, "variables": variables})


def _tool(content: Mapping[str, Any]) -> PlannedTool:
    approval = _approval(content.get("approval", Approval.NEVER))
    return _known(PlannedTool, {**content, "effect": _effect(content.get("effect")), "approval": approval})


def _guarded_tool(content: Mapping[str, Any]) -> PlannedTool:
    return _tool({**content, "approval": content.get("approval", Approval.ALWAYS)})


def _approval(name: object) -> Approval:
    """The strictest rule for one that only a newer release knows."""
    return next((rule for rule in Approval if rule == name), Approval.ALWAYS)


def _effect(name: str | None) -> Effect:
    """The strictest effect for one that only a newer release knows."""
    return Effect(name) if name in set(Effect) else Effect.ONCE


_PARTS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "instructions": _instructions,
    "models": _models,
    # Only `coded` names a graph, and only `team` the members.
    "graph": lambda _: None,
    "team": lambda _: None,
    "tools": lambda content: tuple(_tool(tool) for tool in content),
    "memory": lambda content: _known(MemoryPolicy, content),
    "limits": lambda content: _known(Limits, content),
    # Releases before assistants stored the version 0.
    "origin": lambda content: _known(Origin, {**content, "version": str(content.get("version") or "")}),
    "parameters": lambda content: _known(ModelParameters, {**content, "stop": tuple(content.get("stop") or ())}),
}
