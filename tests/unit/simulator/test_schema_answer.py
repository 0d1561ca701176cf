from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulator.schema_answer import UnsupportedSchemaError, answer_schema

JUDGEMENT = {
    "type": "object",
    "properties": {
        "score": {"type": "number", "minimum": 0, "maximum": 1},
        "reasoning": {"type": "string", "minLength": 1},
    },
    "required": ["score", "reasoning"],
    "additionalProperties": False,
}
FACTS = {
    "type": "object",
    "properties": {"facts": {"type": "array", "items": {"type": "string"}}},
    "required": ["facts"],
}
MEMORIES = {
    "$defs": {
        "Memory": {
            "type": "object",
            "properties": {"text": {"type": "string"}, "weight": {"type": "integer", "minimum": 1, "maximum": 3}},
            "required": ["text", "weight"],
        }
    },
    "type": "object",
    "properties": {"memories": {"type": "array", "items": {"$ref": "#/$defs/Memory"}, "maxItems": 2}},
}
TREE = {
    "$defs": {
        "Node": {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}}}
    },
    "$ref": "#/$defs/Node",
}


@pytest.mark.parametrize(
    "schema",
    [
        JUDGEMENT,
        FACTS,
        MEMORIES,
        TREE,
        {"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 3},
        {"type": "integer", "minimum": -20, "maximum": -10, "multipleOf": 7},
        {"type": "number", "exclusiveMinimum": 0, "maximum": 0.0004},
        {"type": "number", "maximum": -3},
        {"type": "number", "minimum": 0, "maximum": 5, "multipleOf": 0.5},
        {"enum": ["low", "high"]},
        {"const": 4},
        {"type": ["null", "boolean"]},
        {"type": "string", "minLength": 50, "maxLength": 60},
        {"type": "array", "items": {"type": "string", "format": "date"}, "minItems": 3},
        {"allOf": [{"properties": {"a": {"type": "null"}}, "required": ["a"]}, {"type": "object"}]},
        {"oneOf": [{"type": "null"}, {"type": "object", "properties": {"b": {"type": "boolean"}}}]},
        {},
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_the_answer_is_valid_and_reproducible(schema: dict[str, Any], seed: int) -> None:
    answer = answer_schema(schema, seed, ["I ski.", "I read.", "I sing."])

    jsonschema.validate(answer, schema)
    assert answer == answer_schema(schema, seed, ["I ski.", "I read.", "I sing."])


def test_scores_differ_between_requests() -> None:
    scores = {answer_schema(JUDGEMENT, seed, [])["score"] for seed in range(20)}

    assert len(scores) > 10


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6), st.integers())
def test_numbers_lie_within_their_bounds(low: float, span: float, seed: int) -> None:
    value = answer_schema({"type": "number", "minimum": low, "maximum": low + span}, seed, [])

    assert low <= value <= low + span


@pytest.mark.parametrize("facts", [[], ["I ski.", "I read."]])
def test_a_list_of_facts_holds_what_the_user_said(facts: list[str]) -> None:
    assert answer_schema(FACTS, 0, facts) == {"facts": facts}


def test_objects_with_a_text_hold_what_the_user_said_up_to_the_limit() -> None:
    answer = answer_schema(MEMORIES, 0, ["I ski.", "I read.", "I sing."])

    assert [memory["text"] for memory in answer["memories"]] == ["I ski.", "I read."]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "^a+$"},
        {"$ref": "#/$defs/Absent"},
        {"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 2},
        {"type": "blob"},
    ],
)
def test_a_schema_that_cannot_be_met_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedSchemaError):
        answer_schema(schema, 0, [])
