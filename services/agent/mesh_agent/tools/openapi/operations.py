"""Makes the JSON Schema of a call, and the parts of its request, from an operation of an OpenAPI document.

OpenAPI 3.0 and 3.1. Generous in what it reads: what is missing or odd in a document affects the operations that use it,
and no others.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
BODY: Final = "body"
_DEFINITIONS: Final = "#/$defs/"
_MAX_REFERENCES: Final = 32
# The agent, and HTTP, decide about these.
_NO_ARGUMENTS: Final = frozenset({"accept", "content-type", "authorization"})
_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
_FORM: Final = "application/x-www-form-urlencoded"


class OperationError(Exception):
    """The operation cannot be a tool. The text is for the operator."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """`argument` is its name among the arguments, which may differ if two places have a parameter of one name."""

    argument: str
    name: str
    place: str
    explodes: bool
    style: str


@dataclass(frozen=True, slots=True)
class Operation:
    """`body_type` is the media type of the argument `body`, if there is one."""

    id: str
    method: str
    path: str
    description: str
    parameters: tuple[Parameter, ...]
    body_type: str | None
    schema: Mapping[str, Any]


def find_operation(document: Mapping[str, Any], operation_id: str) -> Operation:
    """Raises OperationError."""
    found = [
        (path, method, item, item[method])
        for path, item in document["paths"].items()
        if isinstance(item, dict)
        for method in METHODS
        if isinstance(item.get(method), dict) and item[method].get("operationId") == operation_id
    ]
    if len(found) != 1:
        raise OperationError("the document has several of them" if found else "the document has no such operation")
    path, method, item, operation = found[0]
    reader = _Reader(document)
    parameters = reader.parameters([*_list(item.get("parameters")), *_list(operation.get("parameters"))])
    known = {one.name for one, _, _ in parameters if one.place == "path"}
    if unknown := set(_PLACEHOLDER.findall(str(path))) - known:
        raise OperationError(f"its path has parameters that it does not describe: {', '.join(sorted(unknown))}")
    body_type, body, is_required = reader.body(operation.get("requestBody"))
    properties = {one.argument: schema for one, schema, _ in parameters}
    required = [one.argument for one, _, is_needed in parameters if is_needed]
    if body_type:
        properties[BODY] = body
        required += [BODY] if is_required else []
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    if definitions := reader.definitions:
        schema["$defs"] = definitions
    texts = [str(operation[name]) for name in ("summary", "description") if operation.get(name)]
    made = tuple(one for one, _, _ in parameters)
    return Operation(operation_id, method.upper(), str(path), "\n".join(texts) or operation_id, made, body_type, schema)


class _Reader:
    """Resolves references within one document. `definitions` are the schemas that others refer to."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self.definitions: dict[str, Any] = {}

    def parameters(self, given: Sequence[Any]) -> list[tuple[Parameter, Any, bool]]:
        """Each with its schema, and whether it is required. Those of an operation replace those of its path."""
        by_place: dict[tuple[str, str], Mapping[str, Any]] = {}
        for one in given:
            parameter = self._resolved(one)
            by_place[str(parameter.get("in")), str(parameter.get("name"))] = parameter
        taken: set[str] = {BODY}
        found = []
        for (place, name), parameter in by_place.items():
            if place == "header" and name.lower() in _NO_ARGUMENTS:
                continue
            is_required = place == "path" or bool(parameter.get("required"))
            if place not in {"path", "query", "header"}:
                if is_required:
                    raise OperationError(f"the parameter {name!r} is in the {place}, where the agent sends none")
                continue
            argument = name if name not in taken else f"{name}_in_{place}"
            taken.add(argument)
            style = str(parameter.get("style") or ("form" if place == "query" else "simple"))
            explodes = bool(parameter.get("explode", style == "form"))
            found.append((Parameter(argument, name, place, explodes, style), self._schema_of(parameter), is_required))
        return found

    def body(self, given: Any) -> tuple[str | None, Any, bool]:
        """The media type, the schema, and whether there must be one."""
        if given is None:
            return None, {}, False
        body = self._resolved(given)
        content = body.get("content")
        types: Mapping[str, Any] = content if isinstance(content, dict) else {}
        is_required = bool(body.get("required"))
        for media_type, described in types.items():
            if _is_json(media_type) or media_type.partition(";")[0].strip().lower() == _FORM:
                return media_type, self._schema(_mapping(described).get("schema")), is_required
        if is_required:
            raise OperationError(f"its body is of no type that the agent sends: {', '.join(types) or '-'}")
        return None, {}, False

    def _schema_of(self, parameter: Mapping[str, Any]) -> Any:
        schema = parameter.get("schema")
        if schema is None:
            # A parameter with a media type: its text is JSON.
            schema = next((_mapping(one).get("schema") for one in _mapping(parameter.get("content")).values()), {})
        made = self._schema(schema)
        described = parameter.get("description")
        if described and isinstance(made, dict) and "description" not in made and "$ref" not in made:
            made = {**made, "description": str(described)}
        return made

    def _schema(self, schema: Any, depth: int = 0) -> Any:
        """As JSON Schema: references point to `$defs`, and what OpenAPI 3.0 writes in its own way is translated."""
        if depth > _MAX_REFERENCES:
            raise OperationError("its schema is nested too deeply")
        if isinstance(schema, list):
            return [self._schema(one, depth + 1) for one in schema]
        if not isinstance(schema, dict):
            return schema
        if isinstance(reference := schema.get("$ref"), str):
            return {"$ref": self._defined(reference)}
        made = {
            name: self._schema(value, depth + 1)
            for name, value in schema.items()
            if name not in {"nullable", "example", "xml", "discriminator", "externalDocs"}
        }
        _translate_bounds(made)
        if schema.get("nullable") is True and isinstance(made.get("type"), str):
            made["type"] = [made["type"], "null"]
            if isinstance(made.get("enum"), list) and None not in made["enum"]:
                made["enum"] = [*made["enum"], None]
        return made

    def _defined(self, reference: str) -> str:
        name = reference.removeprefix("#/").replace("/", ".")
        if name not in self.definitions:
            # Before what it refers to, which may be itself.
            self.definitions[name] = True
            self.definitions[name] = self._schema(self._target(reference))
        return f"{_DEFINITIONS}{name.replace('~', '~0')}"

    def _resolved(self, value: Any) -> Mapping[str, Any]:
        for _ in range(_MAX_REFERENCES):
            reference = _mapping(value).get("$ref")
            if not isinstance(reference, str):
                return _mapping(value)
            value = self._target(reference)
        raise OperationError("its references go in a circle")

    def _target(self, reference: str) -> Any:
        if not reference.startswith("#/"):
            raise OperationError(f"it refers to another document: {reference[:200]}")
        value: Any = self._document
        for step in _steps(reference):
            value = value.get(step) if isinstance(value, dict) else None
        if value is None:
            raise OperationError(f"it refers to {reference[:200]}, which the document does not have")
        return value


def _translate_bounds(schema: dict[str, Any]) -> None:
    """In OpenAPI 3.0, `exclusiveMinimum: true` makes `minimum` exclusive."""
    for exclusive, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(schema.get(exclusive), bool):
            is_exclusive = schema.pop(exclusive)
            if is_exclusive and bound in schema:
                schema[exclusive] = schema.pop(bound)


def _steps(reference: str) -> Iterator[str]:
    for step in reference.removeprefix("#/").split("/"):
        yield step.replace("~1", "/").replace("~0", "~")


def _is_json(media_type: str) -> bool:
    kind = media_type.partition(";")[0].strip().lower()
    return kind in {"application/json", "*/*"} or kind.endswith("+json")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
