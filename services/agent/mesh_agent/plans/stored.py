"""The stored form of a plan: JSON under the SHA-256 of itself, readable by the neighbouring releases.

A reader ignores fields it does not know and takes the default of those that are missing. A change that this does not
cover needs another `format`, which a release must be able to read before the next one writes it.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

import orjson

from mesh_agent.domain import Effect
from mesh_agent.plans.plan import Instructions, Limits, MemoryPolicy, Origin, PlannedModel, PlannedTool, RunPlan

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
    data = orjson.dumps({"format": _FORMAT, "plan": plan})
    return StoredPlan(plan, hashlib.sha256(data).digest(), data)


def loaded(data: bytes) -> RunPlan:
    told = orjson.loads(data)["plan"]
    return _known(RunPlan, {name: _PARTS[name](value) if name in _PARTS else value for name, value in told.items()})


def _known[T: DataclassInstance](kind: type[T], told: Mapping[str, Any]) -> T:
    names = {field.name for field in fields(kind)}
    return kind(**{name: value for name, value in told.items() if name in names})


def _instructions(told: Mapping[str, Any]) -> Instructions:
    variables = tuple((name, value) for name, value in told.get("variables", ()))
    return _known(Instructions, {**told, "variables": variables})


def _tool(told: Mapping[str, Any]) -> PlannedTool:
    return _known(PlannedTool, {**told, "effect": _effect(told.get("effect"))})


def _effect(told: str | None) -> Effect:
    """The strictest for one that a newer release has and this one does not know."""
    return Effect(told) if told in set(Effect) else Effect.ONCE


_PARTS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "instructions": _instructions,
    "models": lambda told: tuple(_known(PlannedModel, model) for model in told),
    "tools": lambda told: tuple(_tool(tool) for tool in told),
    "memory": lambda told: _known(MemoryPolicy, told),
    "limits": lambda told: _known(Limits, told),
    "origin": lambda told: _known(Origin, told),
}
