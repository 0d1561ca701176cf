"""Tool calls in the pieces that different servers send."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_agent.llm.openai_compatible.tool_arguments import read_arguments
from mesh_agent.llm.tool_call_deltas import ToolCallDeltas

type Delta = list[dict[str, Any]]
WHOLE = '{"a": 1}'
OTHER = '{"b": 2}'
X: dict[str, Any] = {"index": 0, "call_id": "x"}


def part(
    name: str | None = None, arguments: object = None, *, index: object = None, call_id: object = None
) -> dict[str, Any]:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    fields = {"index": index, "id": call_id, "function": function}
    return {key: value for key, value in fields.items() if value is not None}


def read(*deltas: Delta) -> list[tuple[str, dict[str, Any] | None]]:
    """Names and arguments of the calls; None for arguments that are not readable."""
    calls = ToolCallDeltas()
    for delta in deltas:
        calls.add(delta)
    arguments = [(call.name, read_arguments(call.pieces)) for call in calls.calls]
    return [(name, found.value if found else None) for name, found in arguments]


@pytest.mark.parametrize(
    "deltas",
    [
        pytest.param([[part("f", '{"a"', **X)], [part(None, ": 1}", index=0)]], id="OpenAI"),
        pytest.param([[part("f", '{"a"', call_id="x")], [part(None, ": 1}")]], id="no index"),
        pytest.param([[part("f", '{"a"', call_id="x")], [part(None, ": 1}", call_id="x")]], id="id only"),
        pytest.param([[part("f", '{"a"', **X)], [part("", ": 1}", index=0, call_id="")]], id="empty"),
        pytest.param([[part("f", '{"a"', **X)], [part("f", ": 1}", **X)]], id="repeated"),
        pytest.param([[part("f", '{"a"', index=0)], [part("f", ": 1}", index=0)]], id="name repeated without id"),
        pytest.param([[part("f", '{"a"')], [part("f", ": 1}")]], id="name repeated without id and index"),
        pytest.param([[part(None, '{"a"', index=0)], [part("f", ": 1}", **X)]], id="late name"),
        pytest.param([[part("f", '{"a"', **X)], [part(None, ": 1}", index=0, call_id="y")]], id="new id"),
        pytest.param([[part("f", '{"a"', **X)], [part(None, ": 1}", index=1, call_id="x")]], id="by id"),
        pytest.param([[part("f", WHOLE, **X)], [part("f", WHOLE, **X)]], id="twice"),
        pytest.param([[part("f", {"a": 1}, index=0)]], id="object"),
        pytest.param([[part("f", {}, index=0)], [part("f", {"a": 1}, index=0)]], id="object after placeholder"),
        pytest.param([[part("f", "{}", index=0)], [part(None, WHOLE, index=0)]], id="placeholder"),
        pytest.param([[part("f", "", index=0)], [part(None, WHOLE, index=0)]], id="empty placeholder"),
        pytest.param(
            [[part("f", "{}", index=0)], [part("f", '{"a"', index=0)], [part(None, ": 1}", index=0)]], id="cut"
        ),
        pytest.param([[part("f", "null", index=0)], [part(None, WHOLE, index=0)]], id="null placeholder"),
        pytest.param([[part("f", '{"a"', index=0)], [part("f", WHOLE, index=0)]], id="cumulative"),
        pytest.param([[part("f", text, index=0)] for text in ('{"a"', ": 1}", WHOLE)], id="whole at the end"),
        pytest.param([[part("f", {"a": 0}, **X)], [part("f", {"a": 1}, **X)]], id="obj"),
    ],
)
def test_one_call_is_put_together(deltas: list[Delta]) -> None:
    assert read(*deltas) == [("f", {"a": 1})]


@pytest.mark.parametrize(
    "deltas",
    [
        pytest.param([[part("f", WHOLE, **X)], [part("g", OTHER, index=1, call_id="y")]], id="OpenAI"),
        pytest.param([[part("f", WHOLE, **X)], [part("g", OTHER, index=0, call_id="y")]], id="index 0"),
        pytest.param([[part("f", WHOLE, call_id="x"), part("g", OTHER, call_id="y")]], id="no index"),
        pytest.param([[part("f", WHOLE), part("g", OTHER)]], id="no id and no index"),
        pytest.param([[part("f", WHOLE)], [part("g", OTHER)]], id="no id and no index, one by one"),
        pytest.param([[part("f", WHOLE, index=0)], [part("g", OTHER, index=0)]], id="index 0 without id"),
        pytest.param([[part("f", WHOLE, **X), part("g", OTHER, index=1, call_id="x")]], id="one id"),
        pytest.param([[part("f", WHOLE, call_id="x"), part("g", OTHER, call_id="x")]], id="one id, no index"),
        pytest.param([[part("f", WHOLE, call_id="x")], [part("g", OTHER, call_id="x")]], id="one id, one by one"),
        pytest.param(
            [
                [part("f", '{"a"', **X)],
                [part("g", '{"b"', index=0, call_id="y")],
                [part(None, ": 1}", **X)],
                [part(None, ": 2}", index=0, call_id="y")],
            ],
            id="interleaved by id",
        ),
        pytest.param(
            [
                [part("f", '{"a"', index=0), part("g", '{"b"', index=1)],
                [part(None, ": 1}", index=0), part(None, ": 2}", index=1)],
            ],
            id="interleaved by index",
        ),
    ],
)
def test_parallel_calls_are_told_apart(deltas: list[Delta]) -> None:
    assert read(*deltas) == [("f", {"a": 1}), ("g", {"b": 2})]


@pytest.mark.parametrize("fields", [{}, {"index": 0}])
def test_calls_of_one_tool_are_told_apart_by_whole_arguments(fields: dict[str, Any]) -> None:
    assert read([part("f", WHOLE, **fields)], [part("f", OTHER, **fields)]) == [("f", {"a": 1}), ("f", {"b": 2})]


@pytest.mark.parametrize("names", [["calc", "ulate"], ["calc", "calculate"], ["calculate", "calculate", ""]])
def test_name_may_come_in_pieces(names: list[str]) -> None:
    deltas = [[part(name, **X)] for name in names]

    assert read(*deltas, [part(None, WHOLE, index=0)]) == [("calculate", {"a": 1})]


@pytest.mark.parametrize("pieces", [['{"a": 1'], ["[1]"], ["1"], ['"text"'], [WHOLE, "}"], ['{"a"', '{"a": 1']])
def test_arguments_that_are_no_object_are_unreadable(pieces: list[str]) -> None:
    assert read_arguments(pieces) is None


def test_nested_copy_of_the_beginning_is_not_cumulative() -> None:
    assert read([part("f", '{"a":', index=0)], [part(None, '{"a":1}}', index=0)]) == [("f", {"a": {"a": 1}})]


_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=3)


@given(
    st.dictionaries(_TEXT, st.one_of(st.integers(-9, 9), _TEXT, st.just({})), min_size=1),
    st.lists(st.integers(0, 40), max_size=6),
    st.booleans(),
    st.booleans(),
)
def test_pieces_of_any_arguments_give_them_again(
    arguments: dict[str, Any],
    cuts: list[int],
    is_cumulative: bool,  # noqa: FBT001 - a parameter of Hypothesis
    is_named: bool,  # noqa: FBT001 - a parameter of Hypothesis
) -> None:
    text = json.dumps(arguments)
    places = sorted({0, len(text), *(place % len(text) for place in cuts)})
    starts = [0] * (len(places) - 1) if is_cumulative else places[:-1]
    pieces = [text[start:stop] for start, stop in zip(starts, places[1:], strict=True)]
    name = "f" if is_named else None

    deltas = [[part("f", "", **X)], *([part(name, piece, **X)] for piece in pieces)]

    assert read(*deltas) == [("f", arguments)]
