"""Arguments of tools elsewhere, whatever others call them."""

from collections.abc import Mapping
from typing import Any

from mesh_agent.domain.tools import Effect
from mesh_agent.tools.call import ToolCall
from mesh_agent.tools.registry import MeshTool, ToolRegistry
from mesh_agent.tools.tool import of_schema

NAMES = ("config", "run_manager", "self", "callbacks", "input", "tool_call_id", "args", "kwargs")


async def test_parameters_reach_the_tool_under_any_name() -> None:
    seen: list[dict[str, Any]] = []

    async def call(arguments: Mapping[str, Any]) -> str:
        seen.append(dict(arguments))
        return "done"

    schema = {"type": "object", "properties": {name: {"type": "string"} for name in NAMES}}
    tool = of_schema("deploy", "Deploys.", schema, call)
    registry = ToolRegistry([MeshTool(tool, Effect.ONCE)])
    arguments = {name: f"value of {name}" for name in NAMES}

    result = await registry.call(ToolCall("call_1", "deploy", arguments), registry.planned)

    assert (result.content, result.is_error, seen) == ("done", False, [arguments])
    assert set(registry.planned[0].schema["function"]["parameters"]["properties"]) == set(NAMES)
