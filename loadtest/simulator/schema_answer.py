"""Creates a valid instance of a JSON schema, reproducible by seed. Facts come from the conversation (facts.py)."""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from simulator.facts import NUMBER_PROPERTY, TEXT_PROPERTIES

Schema = Mapping[str, Any]

# Beyond this depth optional properties are omitted and arrays are as short as allowed: schemas may be recursive.
_DEEP = 8
_FORMATS = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "email": "someone@example.com",
    "uuid": "018f0000-0000-7000-8000-000000000000",
    "uri": "https://example.com/",
    "ipv4": "192.0.2.1",
    "hostname": "example.com",
}
_KEYWORD_TYPES = (("properties", "object"), ("items", "array"), ("minimum", "number"), ("maximum", "number"))
# Ranges of unbounded numbers; a model is most often asked for a score.
_OPEN_NUMBER_SPAN = 1.0
_OPEN_INTEGER_SPAN = 10


class UnsupportedSchemaError(ValueError):
    """The schema uses a feature for which no instance can be created."""


def facts_property(schema: Schema) -> tuple[str, str | None] | None:
    """The property of a schema for facts and, for objects, the inner property for the text."""
    maker = _Maker(schema, random.Random(0))  # noqa: S311 - no draw is made
    for name, value in maker.resolve(schema).get("properties", {}).items():
        items = _items_of(maker, value)
        if items is None:
            continue
        if name == "facts" and items.get("type") == "string":
            return name, None
        properties = items.get("properties", {})
        for text in TEXT_PROPERTIES:
            if maker.resolve(properties.get(text, {})).get("type") == "string":
                return name, text
    return None


def answer_schema(schema: Schema, seed: int, facts: Sequence[str], numbers: Mapping[str, int] | None = None) -> Any:
    """An instance of the schema. Its property for facts has one item per fact (up to `maxItems`).

    `numbers` are those of the facts' messages.

    Raises: UnsupportedSchemaError
    """
    maker = _Maker(schema, random.Random(seed))  # noqa: S311 - reproducible answers, not a secret
    answer = maker.make(schema)
    wanted = facts_property(schema)
    if wanted is None or not isinstance(answer, dict):
        return answer
    name, text = wanted
    array = maker.resolve(maker.resolve(schema)["properties"][name])
    kept = facts[: array.get("maxItems")]
    answer[name] = list(kept) if text is None else [_item(maker, array["items"], text, fact, numbers) for fact in kept]
    return answer


def _item(maker: "_Maker", schema: Schema, text: str, fact: str, numbers: Mapping[str, int] | None) -> dict[str, Any]:
    item: dict[str, Any] = maker.make(schema) | {text: fact}
    if NUMBER_PROPERTY in item and fact in (numbers or {}):
        item[NUMBER_PROPERTY] = (numbers or {})[fact]
    return item


def _items_of(maker: "_Maker", schema: Schema) -> Schema | None:
    resolved = maker.resolve(schema)
    return maker.resolve(resolved.get("items", {})) if resolved.get("type") == "array" else None


class _Maker:
    def __init__(self, root: Schema, rng: random.Random) -> None:
        self._root = root
        self._rng = rng
        self._makers: dict[str, Callable[[Schema, int], Any]] = {
            "object": self._object,
            "array": self._array,
            "string": self._string,
            "number": self._number,
            "integer": self._integer,
            "boolean": lambda _schema, _depth: self._rng.random() < 0.5,  # noqa: PLR2004 - a coin
            "null": lambda _schema, _depth: None,
        }

    def make(self, schema: Schema, depth: int = 0) -> Any:
        resolved = self.resolve(schema)
        if "const" in resolved:
            return resolved["const"]
        if "enum" in resolved:
            return self._rng.choice(resolved["enum"])
        kind = _type_of(resolved)
        if kind not in self._makers:
            raise UnsupportedSchemaError(f"unknown type {kind!r}")
        return self._makers[kind](resolved, depth)

    def resolve(self, schema: Schema) -> Schema:
        """Follows `$ref`, merges `allOf`, takes the first `anyOf`/`oneOf` that is not null."""
        resolved = dict(schema)
        if "$ref" in resolved:
            resolved = {**self._target(resolved.pop("$ref")), **resolved}
            return self.resolve(resolved)
        for part in resolved.pop("allOf", []):
            resolved = {**resolved, **self.resolve(part)}
        for choice in ("anyOf", "oneOf"):
            options = resolved.pop(choice, None)
            if options:
                first = next((option for option in options if option.get("type") != "null"), options[0])
                resolved = {**resolved, **self.resolve(first)}
        return resolved

    def _target(self, reference: str) -> Schema:
        node: Any = self._root
        for step in reference.removeprefix("#").strip("/").split("/") if reference != "#" else ():
            node = node.get(step) if isinstance(node, Mapping) else None
        if not isinstance(node, Mapping):
            raise UnsupportedSchemaError(f"no target for $ref {reference!r}")
        return node

    def _object(self, schema: Schema, depth: int) -> dict[str, Any]:
        required = schema.get("required", [])
        return {
            name: self.make(value, depth + 1)
            for name, value in schema.get("properties", {}).items()
            if name in required or depth < _DEEP
        }

    def _array(self, schema: Schema, depth: int) -> list[Any]:
        shortest = schema.get("minItems", 0)
        length = min(max(shortest, 1), schema.get("maxItems", math.inf)) if depth < _DEEP else shortest
        return [self.make(schema.get("items", {"type": "string"}), depth + 1) for _ in range(int(length))]

    def _string(self, schema: Schema, _depth: int) -> str:
        if "pattern" in schema:
            raise UnsupportedSchemaError("strings with a pattern can't be made")
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        text = f"A sample text {self._rng.randrange(10_000)}."
        return text.ljust(schema.get("minLength", 0), ".")[: schema.get("maxLength")]

    def _number(self, schema: Schema, _depth: int) -> float:
        step = schema.get("multipleOf")
        if step:
            return float(round(self._multiple(schema, step) * step, 10))
        low, high = _bounds(schema, _OPEN_NUMBER_SPAN)
        value = round(self._rng.uniform(low, high), 3)
        # Rounding may hit an exclusive bound or exceed a bound with more digits.
        return value if low <= value <= high and value not in _exclusive(schema) else (low + high) / 2

    def _integer(self, schema: Schema, _depth: int) -> int:
        step: int = math.ceil(schema.get("multipleOf", 1))
        return self._multiple(schema, step) * step

    def _multiple(self, schema: Schema, step: float) -> int:
        low, high = _bounds(schema, _OPEN_INTEGER_SPAN * step)
        exclusive = _exclusive(schema)
        first, last = math.ceil(low / step), math.floor(high / step)
        first += int(first * step in exclusive)
        last -= int(last * step in exclusive)
        if first > last:
            raise UnsupportedSchemaError("no number lies within the bounds")
        return self._rng.randint(first, last)


def _type_of(schema: Schema) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        return str(next((option for option in kind if option != "null"), "null"))
    if kind is None:
        return next((implied for keyword, implied in _KEYWORD_TYPES if keyword in schema), "string")
    return str(kind)


def _bounds(schema: Schema, open_span: float) -> tuple[float, float]:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is None:
        low = 0 if high is None or high >= 0 else high - open_span
    return low, low + open_span if high is None else high


def _exclusive(schema: Schema) -> tuple[float | None, float | None]:
    return schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
