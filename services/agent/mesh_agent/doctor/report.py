"""What the doctor found, as a table and as a piece of configuration."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Literal

import orjson

from mesh_agent.doctor.questions import Finding
from mesh_agent.llm.presets import PRESETS
from mesh_agent.llm.quirks import Quirks
from mesh_agent.llm.registry import Model

type Format = Literal["yaml", "json"]


def needed_quirks(findings: Iterable[Finding]) -> dict[str, Any]:
    return {name: value for finding in findings for name, value in finding.quirks.items()}


def suits(model: Model, findings: Iterable[Finding]) -> bool:
    """Whether the entry is right as it is."""
    return all(getattr(model.quirks, name) == value for name, value in needed_quirks(findings).items())


def table(findings: Sequence[Finding]) -> str:
    rows = [("question", "result", "quirks"), *((each.question, each.result, _shown(each)) for each in findings)]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return "\n".join(f"{row[0]:{widths[0]}}  {row[1]:{widths[1]}}  {row[2]}".rstrip() for row in rows)


def entry(model: Model, findings: Iterable[Finding], form: Format) -> str:
    """`provider` and `quirks` of the entry: what differs from the preset, and what was set and is not a finding."""
    needed = needed_quirks(findings)
    preset = PRESETS[model.provider].quirks
    values = {field.name: needed.get(field.name, getattr(model.quirks, field.name)) for field in fields(Quirks)}
    own = {name: value for name, value in values.items() if value != getattr(preset, name)}
    if form == "json":
        return _json({"provider": model.provider, "quirks": own})
    return "\n".join([f"provider: {model.provider}", *_yaml_quirks(own)])


def _yaml_quirks(own: Mapping[str, Any]) -> list[str]:
    """Any JSON is YAML."""
    lines = [f"  {name}: {_json(value)}" for name, value in own.items()]
    return ["quirks:", *lines] if lines else ["quirks: {}"]


def _shown(finding: Finding) -> str:
    return ", ".join(f"{name}: {_json(value)}" for name, value in finding.quirks.items())


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
