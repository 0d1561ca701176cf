"""Calling tools by name: whatever a model requests, it gets a result or an error."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace

import orjson
import pytest
from fakes.agent.loop_time import in_jumping_time, loop_time_ms
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.tools import BaseTool, ToolException, tool
from mesh_agent.domain.tools import MAX_TOOL_RESULT_CHARS, Effect, ToolResult
from mesh_agent.sdk.tool import UnknownOutcomeError
from mesh_agent.tools.calculate import calculate_tool
from mesh_agent.tools.call import ToolCall
from mesh_agent.tools.registry import MeshTool, ToolRegistry
from mesh_agent.tools.tool import of_function, of_schema


@tool
async def repeat(text: str, times: int = 1) -> str:
    """Repeats the text."""
    return text * times


@tool
async def refuse() -> str:
    """Fails with a message for the model."""
    raise ToolException("Not today.")


@tool
async def crash() -> str:
    """Fails with an unexpected exception."""
    raise ZeroDivisionError


@tool
async def hang() -> str:
    """Never returns."""
    await asyncio.Event().wait()
    return "never"


@tool
async def count() -> int:
    """Returns a result that is not text."""
    return 42


TOOLS: Sequence[BaseTool] = (repeat, refuse, crash, hang, count)
REGISTRY = ToolRegistry([MeshTool(of_function(each), Effect.NONE) for each in TOOLS])


async def _called(name: str, **arguments: object) -> ToolResult:
    return await REGISTRY.call(ToolCall("call-1", name, arguments), REGISTRY.planned)


async def test_a_result_names_its_call_and_what_it_was_called_with() -> None:
    assert await _called("repeat", text="ab", times=2) == ToolResult(
        "call-1", "repeat", '{"text":"ab","times":2}', "abab", is_error=False
    )


async def test_a_result_that_is_no_text_becomes_one() -> None:
    assert (await _called("count")).content == "42"


@pytest.mark.parametrize("name", ["", "delete_everything", "Repeat", "repeat ", "'; drop\x00"])
async def test_a_tool_that_does_not_exist_is_said_not_to(name: str) -> None:
    result = await _called(name, text="a")

    assert result.is_error
    assert result.content.startswith("There is no tool")


async def test_a_tool_that_is_not_in_the_plan_does_not_exist_for_the_model() -> None:
    planned = [tool for tool in REGISTRY.planned if tool.name == "refuse"]

    result = await REGISTRY.call(ToolCall("call-1", "repeat", {"text": "a"}), planned)

    assert (result.content, result.is_error) == ("There is no tool 'repeat'.", True)


async def test_a_tool_of_the_plan_that_is_not_here_is_said_not_to_be() -> None:
    elsewhere = ToolRegistry([MeshTool(of_function(lose_the_answer), Effect.ONCE)])

    result = await REGISTRY.call(ToolCall("call-1", "lose_the_answer", {}), elsewhere.planned)

    assert (result.is_error, result.is_unknown) == (True, False)
    assert result.content == "The tool 'lose_the_answer' is not available any more."


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({}, "text"),
        ({"text": None}, "text"),
        ({"text": 5}, "text"),
        ({"text": "a", "times": "many"}, "times"),
        ({"unreadable": '{"text": "a'}, "text"),
    ],
)
async def test_arguments_that_do_not_fit_are_named(arguments: dict[str, object], field: str) -> None:
    result = await _called("repeat", **arguments)

    assert result.is_error
    assert result.content.startswith("The arguments are not valid: ")
    assert f"{field}: " in result.content


async def test_a_tool_that_refuses_is_quoted() -> None:
    result = await _called("refuse")

    assert (result.content, result.is_error) == ("Not today.", True)


async def test_tool_that_crashes_gives_the_model_an_error_without_its_text() -> None:
    """A tool may be anybody's code. It never ends the run."""
    result = await _called("crash")

    assert (result.content, result.is_error, result.is_unknown) == ("The tool failed.", True, False)


async def test_crash_of_a_tool_with_an_effect_leaves_it_unknown() -> None:
    registry = ToolRegistry([MeshTool(of_function(crash), Effect.ONCE)])

    result = await registry.call(ToolCall("call-1", "crash", {}), registry.planned)

    assert (result.is_error, result.is_unknown) == (True, True)


@in_jumping_time
async def test_a_tool_that_hangs_is_given_up() -> None:
    result = await _called("hang")

    assert (result.content, result.is_error) == ("The tool did not answer within 30 s.", True)
    assert loop_time_ms() == 30_000


async def test_cancelling_reaches_a_tool_that_hangs() -> None:
    call = asyncio.ensure_future(_called("hang"))
    await asyncio.sleep(0)

    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call


@pytest.mark.parametrize(("chars", "kept"), [(7_999, 7_999), (8_000, 8_000), (8_001, 8_000)])
async def test_a_result_is_cut_at_its_bound(chars: int, kept: int) -> None:
    assert (await _called("repeat", text="x", times=chars)).content == "x" * kept


async def test_nul_in_a_result_is_replaced() -> None:
    assert (await _called("repeat", text="a\x00b")).content == "a\ufffdb"


_JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.floats(), st.text(st.characters(codec="utf-8"))
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(st.sampled_from(["expression", "text", "unreadable", "\u20ac"]), _JSON, max_size=3))
async def test_any_arguments_give_a_result_that_can_be_written_again(arguments: dict[str, object]) -> None:
    registry = ToolRegistry([MeshTool(calculate_tool(), Effect.NONE)])

    result = await registry.call(ToolCall("c", "calculate", arguments), registry.planned)

    assert isinstance(orjson.loads(result.arguments_json), dict)
    assert result.content


@tool
async def lose_the_answer() -> str:
    """Takes effect, but loses the response."""
    raise UnknownOutcomeError("No answer.")


@pytest.mark.parametrize(
    ("effect", "is_unknown"), [(Effect.NONE, False), (Effect.IDEMPOTENT, True), (Effect.ONCE, True)]
)
async def test_outcome_of_a_call_that_acts_is_unknown_when_the_tool_cannot_tell(
    effect: Effect,
    is_unknown: bool,  # noqa: FBT001 - a parameter of pytest
) -> None:
    registry = ToolRegistry([MeshTool(of_function(lose_the_answer), effect)])

    result = await registry.call(ToolCall("call-1", "lose_the_answer", {}), registry.planned)

    assert (result.is_error, result.is_unknown, result.content) == (True, is_unknown, "No answer.")


@in_jumping_time
async def test_timeout_of_a_call_that_acts_leaves_its_outcome_unknown() -> None:
    registry = ToolRegistry([MeshTool(of_function(hang), Effect.ONCE)])

    result = await registry.call(ToolCall("call-1", "hang", {}), registry.planned)

    assert result.is_unknown


@in_jumping_time
async def test_policy_of_a_call_is_the_plans() -> None:
    """The run started on a replica where the tool was configured differently."""
    registry = ToolRegistry(
        [MeshTool(of_function(hang), Effect.NONE, 20.0), MeshTool(of_function(repeat), Effect.NONE)]
    )
    hung, repeated = registry.planned
    planned = [replace(hung, effect=Effect.ONCE, timeout_s=1.5), replace(repeated, max_result_chars=3)]

    late = await registry.call(ToolCall("call-1", "hang", {}), planned)
    short = await registry.call(ToolCall("call-2", "repeat", {"text": "abcdef"}), planned)

    assert (late.is_unknown, late.content) == (True, "The tool did not answer within 1.5 s.")
    assert loop_time_ms() == 1_500
    assert short.content == "abc"


def test_a_tool_is_planned_as_it_is_here() -> None:
    [planned] = ToolRegistry([MeshTool(of_function(repeat), Effect.IDEMPOTENT, 5.0)]).planned

    assert (planned.name, planned.effect, planned.timeout_s) == ("repeat", Effect.IDEMPOTENT, 5.0)
    assert planned.max_result_chars == MAX_TOOL_RESULT_CHARS
    assert planned.schema["function"]["description"] == "Repeats the text."
    assert set(planned.schema["function"]["parameters"]["properties"]) == {"text", "times"}


@pytest.mark.parametrize(
    ("argument", "expected"),
    [(10**20, 10**20), ("\ud83d", "\ud83d"), (float("inf"), None), ([10**20, float("nan")], [10**20, None])],
)
def test_arguments_can_be_told_whatever_a_model_wrote(argument: object, expected: object) -> None:
    call = ToolCall("call-1", "count", {"argument": argument})

    assert json.loads(call.arguments_json, parse_constant=pytest.fail) == {"argument": expected}


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="the same name"):
        ToolRegistry([MeshTool(of_function(count), Effect.NONE), MeshTool(of_function(count), Effect.ONCE)])


_ROOM = {
    "type": "object",
    "properties": {"room": {"type": "string"}, "seats": {"type": "integer", "minimum": 1}},
    "required": ["room"],
    "additionalProperties": False,
}


def _of_json_schema(schema: dict[str, object], booked: list[dict[str, object]]) -> MeshTool:
    """A tool as operators configure them."""

    async def run(arguments: dict[str, object]) -> str:
        booked.append(arguments)
        return "Booked."

    return MeshTool(of_schema("book_room", "Books a room.", schema, run), Effect.ONCE)


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({}, "room: "),
        ({"room": 5}, "room: "),
        ({"room": "blue", "seats": 0}, "seats: "),
        ({"room": "blue", "seats": "two"}, "seats: "),
        ({"room": "blue", "at": "noon"}, "'at' was unexpected"),
        ({"unreadable": '{"room": "bl'}, "room: "),
    ],
)
async def test_tool_of_a_json_schema_is_not_called_with_other_arguments(
    arguments: dict[str, object], fault: str
) -> None:
    booked: list[dict[str, object]] = []
    registry = ToolRegistry([_of_json_schema(_ROOM, booked)])

    refused = await registry.call(ToolCall("c", "book_room", arguments), registry.planned)
    accepted = await registry.call(ToolCall("c", "book_room", {"room": "blue", "seats": 2}), registry.planned)

    assert (refused.is_error, refused.is_unknown) == (True, False)
    assert refused.content.startswith("The arguments are not valid: ")
    assert fault in refused.content
    assert (accepted.is_error, booked) == (False, [{"room": "blue", "seats": 2}])


async def test_arguments_are_checked_by_the_schema_that_the_model_has_seen() -> None:
    booked: list[dict[str, object]] = []
    seen = ToolRegistry([_of_json_schema(_ROOM | {"required": ["room", "seats"]}, [])])
    registry = ToolRegistry([_of_json_schema(_ROOM, booked)])

    result = await registry.call(ToolCall("c", "book_room", {"room": "blue"}), seen.planned)

    assert (result.is_error, booked) == (True, [])


async def test_call_with_a_fault_is_not_made() -> None:
    booked: list[dict[str, object]] = []
    registry = ToolRegistry([_of_json_schema(_ROOM, booked)])

    result = await registry.call(ToolCall("c", "book_room", {"room": "blue"}, fault="Cut off."), registry.planned)

    assert (result.content, result.is_error, booked) == ("Cut off.", True, [])


@pytest.mark.parametrize("broken", [{"type": "text"}, {"pattern": "("}])
def test_schema_that_is_not_valid_is_refused_at_the_start(broken: dict[str, object]) -> None:
    schema: dict[str, object] = {"type": "object", "properties": {"room": broken}}

    with pytest.raises(ValueError, match="the schema of the tool 'book_room' is not valid"):
        ToolRegistry([_of_json_schema(schema, [])])
