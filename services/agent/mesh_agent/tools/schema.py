"""Checks the arguments of calls against the tools' JSON Schemas, before anything is called."""

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

import jsonschema_rs

from mesh_agent.plans.plan import PlannedTool

# A pattern of an operator's schema may look around, but may not occupy the process.
_PATTERNS: Final = jsonschema_rs.FancyRegexOptions(backtrack_limit=100_000)
_MAX_SCHEMA_CHARS: Final = 32_768
_MAX_DEPTH: Final = 32
# A model corrects the first faults; the rest only costs tokens.
_MAX_FAULTS: Final = 5


class ArgumentSchemas:
    """The schemas of this process's tools. Building a validator costs 20 times as much as using it."""

    def __init__(self, planned: tuple[PlannedTool, ...]) -> None:
        """Raises ValueError if a tool's schema is not valid."""
        self._own = {tool.name: (tool.schema, _validator(tool)) for tool in planned}

    def faults(self, tool: PlannedTool, arguments: Mapping[str, Any]) -> str:
        """What is wrong with the arguments, empty if nothing is.

        The plan's schema counts, because the model has seen that one.
        """
        schema, validator = self._own.get(tool.name, (None, None))
        if validator is None or schema != tool.schema:
            try:
                validator = _validator(tool)
            except ValueError as error:
                return str(error)
        return _joined(validator, dict(arguments))


def schema_fault(schema: Mapping[str, Any]) -> str:
    """Why this is no JSON Schema; empty if it is one."""
    try:
        _validator_of(schema)
    except ValueError as error:
        return str(error)
    return ""


def foreign_schema_fault(schema: Mapping[str, Any]) -> str:
    """Why no model should see this schema, which others have sent, as that of a tool's arguments; empty if it may."""
    if fault := _unusable(schema):
        return f"its schema {fault}"
    if schema.get("type") != "object":
        return "its schema is not of an object"
    return schema_fault(schema)


def answer_schema_fault(schema: Mapping[str, Any]) -> str:
    """Why no answer can be asked for in this form; empty if it can."""
    if fault := _unusable(schema):
        return fault
    if schema.get("type") not in {"object", "array"}:
        return "must be of the type object or array"
    return schema_fault(schema)


def _unusable(schema: Mapping[str, Any]) -> str:
    try:
        text = json.dumps(schema)
    except (TypeError, ValueError, RecursionError):
        return "is not JSON"
    if len(text) > _MAX_SCHEMA_CHARS:
        return f"is longer than {_MAX_SCHEMA_CHARS} characters"
    if max(_depths(schema), default=0) > _MAX_DEPTH:
        return f"is nested deeper than {_MAX_DEPTH}"
    if any(not reference.startswith("#") for reference in _references(schema)):
        return "refers to another document"
    return ""


def _depths(value: Any, depth: int = 0) -> Iterator[int]:
    yield depth
    if depth <= _MAX_DEPTH:
        for entry in _entries(value):
            yield from _depths(entry, depth + 1)


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (str(value[name]) for name in ("$ref", "$dynamicRef") if name in value)
    for entry in _entries(value):
        yield from _references(entry)


def _entries(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def answer_faults(schema: Mapping[str, Any], answer: Any) -> str:
    """What is wrong with an answer by its JSON Schema; empty if nothing is. Raises ValueError as `_validator_of`."""
    return _joined(_validator_of(schema), answer)


def _validator(tool: PlannedTool) -> jsonschema_rs.Validator:
    try:
        return _validator_of(tool.schema.get("function", {}).get("parameters", {}))
    except ValueError as error:
        raise ValueError(f"the schema of the tool {tool.name!r} is not valid: {error}") from error


def _validator_of(schema: Mapping[str, Any]) -> jsonschema_rs.Validator:
    """Raises ValueError if the schema is not valid."""
    try:
        return jsonschema_rs.validator_for(dict(schema), offline=True, pattern_options=_PATTERNS)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        raise ValueError(str(error)) from error


def _joined(validator: jsonschema_rs.Validator, value: Any) -> str:
    return "; ".join(map(_described, islice(validator.iter_errors(value), _MAX_FAULTS)))


def _described(error: jsonschema_rs.ValidationError) -> str:
    path = [str(step) for step in error.instance_path]
    if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Required):
        path.append(str(error.kind.property))
    return f"{'.'.join(path)}: {error.message}" if path else error.message
