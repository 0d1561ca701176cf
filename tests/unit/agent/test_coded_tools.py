"""Tools of other packages: their schemas, their calls, and what cannot be a tool."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import pytest
from mesh_agent.domain.tools import Approval, Effect, ToolResult
from mesh_agent.sdk import Call, ToolError, UnknownOutcomeError, tool
from mesh_agent.sdk.tool import ToolDefinition
from mesh_agent.tools.call import CallIdentity, ToolCall, calling
from mesh_agent.tools.coded.functions import coded_tool
from mesh_agent.tools.coded.installed import installed_tools
from mesh_agent.tools.registry import ToolRegistry
from mesh_common.ids import RunId, ThreadId, new_id
from prometheus_client import REGISTRY
from pydantic import BaseModel, Field
from structlog.testing import capture_logs
from support.subjects import some_subject


class Address(BaseModel):
    city: str
    floor: int = 0


@tool(effect="once", approval="always", timeout_s=7, max_result_chars=40, is_parallel=False)
async def deliver(to: Address, parcels: Annotated[int, Field(ge=1, description="How many")], call: Call) -> str:
    """Delivers parcels."""
    return f"{parcels} to {to.city}, {to.floor} ({call.key})"


@tool(effect="none")
def weigh(parcel: str, copy: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002 - as models call it
    """Weighs a parcel."""
    return {"parcel": parcel, "copy": copy, "thread": threading.current_thread().name.rpartition("_")[0]}


@tool(effect="once")
async def fail(how: str) -> str:
    """Fails."""
    match how:
        case "refuse":
            raise ToolError("Not today.")
        case "lose":
            raise UnknownOutcomeError("No answer.")
        case "validate":
            # Its own data, after it may have acted.
            Address.model_validate({})
    raise ZeroDivisionError


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1, thread_name_prefix="tools") as pool:
        yield pool


async def _called(threads: ThreadPoolExecutor, made: ToolDefinition, **arguments: object) -> ToolResult:
    name = made.function.__name__
    registry = ToolRegistry([coded_tool(name, made).opened(threads)])
    identity = CallIdentity("run:1:0", some_subject(), RunId(new_id()), ThreadId(new_id()))
    with calling(identity):
        return await registry.call(ToolCall("c", name, arguments), registry.planned, is_approved=True)


def test_schema_is_that_of_the_parameters_without_the_call(threads: ThreadPoolExecutor) -> None:
    made = coded_tool("deliver", deliver).opened(threads)

    function = made.planned().schema["function"]
    policy = (made.effect, made.approval, made.timeout_s, made.max_result_chars, made.is_parallel)
    assert (function["name"], function["description"]) == ("deliver", "Delivers parcels.")
    assert set(function["parameters"]["properties"]) == {"to", "parcels"}
    assert function["parameters"]["properties"]["parcels"]["minimum"] == 1
    assert function["parameters"]["required"] == ["to", "parcels"]
    assert policy == (Effect.ONCE, Approval.ALWAYS, 7, 40, False)


async def test_coroutine_gets_its_arguments_as_their_types_and_its_call(threads: ThreadPoolExecutor) -> None:
    result = await _called(threads, deliver, to={"city": "Bonn", "floor": 3}, parcels=2)

    assert (result.content, result.is_error) == ("2 to Bonn, 3 (run:1:0)", False)


async def test_function_runs_in_a_thread_and_its_result_becomes_json(threads: ThreadPoolExecutor) -> None:
    result = await _called(threads, weigh, parcel="p", copy=True)

    assert result.content == '{"parcel":"p","copy":true,"thread":"tools"}'


@pytest.mark.parametrize(
    "arguments", [{}, {"to": {"city": 1}, "parcels": 1}, {"to": {"city": "Bonn"}, "parcels": 0}, {"call": {}}]
)
async def test_arguments_that_do_not_fit_are_named(threads: ThreadPoolExecutor, arguments: dict[str, object]) -> None:
    result = await _called(threads, deliver, **arguments)

    assert result.content.startswith("The arguments are not valid: ")
    assert (result.is_error, result.is_unknown) == (True, False)


@pytest.mark.parametrize(
    ("how", "content", "is_unknown"),
    [
        ("refuse", "Not today.", False),
        ("lose", "No answer.", True),
        ("crash", "The tool failed.", True),
        ("validate", "The tool failed.", True),
    ],
)
async def test_failure_says_whether_the_tool_may_have_acted(
    threads: ThreadPoolExecutor, how: str, content: str, *, is_unknown: bool
) -> None:
    result = await _called(threads, fail, how=how)

    assert (result.content, result.is_error, result.is_unknown) == (content, True, is_unknown)


async def _no_docstring(parcel: str) -> str:
    return parcel


async def _no_type(parcel) -> str:  # type: ignore[no-untyped-def]  # noqa: ANN001 - the fault
    """Weighs."""
    return str(parcel)


async def _no_names(*parcels: str) -> str:
    """Weighs."""
    return str(parcels)


@pytest.mark.parametrize("function", [_no_docstring, _no_type, _no_names])
def test_function_that_models_cannot_call_is_refused(function: Any) -> None:
    with pytest.raises(TypeError):
        coded_tool("weigh", tool()(function))


@pytest.mark.parametrize("policy", [{"timeout_s": 0}, {"timeout_s": 301}, {"max_result_chars": 0}])
def test_policy_out_of_its_bounds_is_refused(policy: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        tool(**policy)


def test_tools_that_cannot_be_used_are_named_and_the_others_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "some_tools.py"
    package.write_text(
        "from mesh_agent.sdk import tool\n"
        "@tool()\n"
        "async def weigh(parcel: str) -> str:\n"
        "    '''Weighs a parcel.'''\n"
        "    return parcel\n"
        "async def no_tool() -> None: ...\n"
    )
    information = tmp_path / "some_tools-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: some-tools\nVersion: 1.0\n")
    points = ("weigh", "calculate", "shop__weigh", "no_tool", "missing")
    targets = {"no_tool": "some_tools:no_tool", "missing": "no_such_module:tool"}
    lines = "".join(f"{name} = {targets.get(name, 'some_tools:weigh')}\n" for name in points)
    (information / "entry_points.txt").write_text(f"[mesh.tools]\n{lines}")
    monkeypatch.syspath_prepend(tmp_path)

    with capture_logs() as logs:
        found = installed_tools({"calculate"})

    unusable = {entry["name"] for entry in logs if entry["event"] == "tool.unusable"}
    assert [one.name for one in found] == ["weigh"]
    assert unusable == {"calculate", "shop__weigh", "no_tool", "missing"}
    assert all(REGISTRY.get_sample_value("mesh_agent_tools_unusable", {"tool": name}) == 1 for name in unusable)
