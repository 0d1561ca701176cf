"""Tool calls as models write them: read or reported to the model as unreadable, never an internal error."""

import json
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from fakes.agent.chat_models import Heard
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from mesh_agent.graph.nodes import tool_calls
from mesh_agent.llm.completion import Completion
from mesh_agent.llm.openai_compatible.messages import UNREADABLE, message_of
from mesh_agent.llm.openai_compatible.request_messages import request_messages
from mesh_agent.llm.openai_compatible.source import Source
from mesh_agent.llm.openai_compatible.stream import read_chunks
from mesh_agent.llm.quirks import Quirks

HERE = Source.of("other", "http://here/v1", "m")


async def _read(*calls: object) -> AIMessage:
    """The message of an answer with one chunk per item."""
    completion = Completion()

    async def received() -> AsyncIterator[bytes]:
        for call in calls:
            choice = {"delta": {"tool_calls": [call]}, "finish_reason": "tool_calls"}
            yield b"data: " + orjson.dumps({"choices": [choice]}) + b"\n\n"

    await read_chunks(received(), completion, Heard().on_text)
    return message_of(completion, [], HERE, ())


def _calculate(arguments: str) -> dict[str, Any]:
    return {"index": 0, "id": "call-1", "function": {"name": "calculate", "arguments": arguments}}


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('{"expression": "1"}', {"expression": "1"}),
        ('{"expression":\n"1\n+ 1"}', {"expression": "1\n+ 1"}),
        ("", {}),
        ("{}", {}),
        ("null", {}),
        ('{"expression": "\\ud83d"}', {"expression": "\ufffd"}),
        ('{"expression": "\\ud83c\\udf75"}', {"expression": "\U0001f375"}),
        ('{"expression": 100000000000000000000000000000}', {"expression": 1e29}),
        ("[]", {}),
        ('"{\\"expression\\": \\"1\\"}"', {"expression": "1"}),
    ],
)
async def test_arguments_are_read(written: str, read: dict[str, object]) -> None:
    [call] = tool_calls(await _read(_calculate(written)))

    assert (call.id, call.name, call.arguments, call.fault) == ("call-1", "calculate", read, "")


@pytest.mark.parametrize("written", ['{"expression": "1', '"1 + 1"', "[1]", "42", '{"expression": NaN}', "{}}"])
async def test_call_with_unreadable_arguments_has_a_fault(written: str) -> None:
    [call] = tool_calls(await _read(_calculate(written)))

    assert (call.id, call.name, call.arguments) == ("call-1", "calculate", {"unreadable": written})
    assert call.fault == UNREADABLE


# As models write them: lone surrogates and long numbers included.
_ARGUMENTS = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=30),
    st.sampled_from(
        ["[" * 100_000, '{"a":' * 5_000, '{"a": "\\udc00\\ud800"}', '{"\\ud800": 1}', "1e999", "-0", "[[]]"]
    ),
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters(), max_size=5)),
        lambda inner: st.dictionaries(st.text(st.characters(), max_size=3), inner, max_size=3),
        max_leaves=5,
    ).map(json.dumps),
)


@settings(max_examples=60, deadline=None)
@given(_ARGUMENTS)
async def test_whatever_arguments_a_model_writes_the_run_goes_on(written: str) -> None:
    """The arguments are part of an event, and of the next request next to the tool's result."""
    message = await _read(_calculate(written))

    [call] = tool_calls(message)
    assert orjson.loads(call.arguments_json) == call.arguments
    history = [HumanMessage("6 * 7?"), message, ToolMessage("42", tool_call_id=call.id)]
    _, sent, _ = request_messages(history, HERE, Quirks())
    assert orjson.dumps(sent)
    assert isinstance(json.loads(sent["tool_calls"][0]["function"]["arguments"]), dict)


_FIRST = {"index": 0, "id": "a", "function": {"name": "calculate"}}


@pytest.mark.parametrize(
    ("call", "ids"),
    [
        ({"index": 0, "id": 5}, ["a"]),
        ({"index": 1, "id": 5}, ["a", "5"]),
        ({"index": "1", "id": "b"}, ["a", "b"]),
        ({"index": None, "id": None, "function": None}, ["a"]),
    ],
)
async def test_a_call_that_is_told_a_little_differently_is_read(call: object, ids: list[str]) -> None:
    assert [call.id for call in tool_calls(await _read(_FIRST, call))] == ids


@pytest.mark.parametrize(
    "call",
    [{"index": [1]}, {"index": "first"}, {"function": {"name": 5}}, {"function": "calculate"}, "calculate", None],
)
async def test_what_is_no_part_of_a_call_is_ignored(call: object) -> None:
    [read] = tool_calls(await _read(_FIRST, call))

    assert (read.id, read.name, read.arguments) == ("a", "calculate", {})
