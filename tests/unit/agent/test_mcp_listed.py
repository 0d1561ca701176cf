"""What an MCP server lists, and what the agent takes of it."""

from typing import Any

import pytest
from mcp.types import Tool, ToolAnnotations
from mesh_agent.domain.tools import Approval, Effect
from mesh_agent.tool_server_settings import McpServerSettings
from mesh_agent.tools.mcp.listed import listed
from support.tool_servers import server_of

OBJECT: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}}}


def settings(**fields: Any) -> McpServerSettings:
    return McpServerSettings.model_validate({"name": "shop", "url": "http://shop.internal/mcp", **fields})


def a_tool(name: str = "buy", schema: dict[str, Any] = OBJECT, hints: dict[str, bool] | None = None) -> Tool:
    annotations = ToolAnnotations.model_validate(hints) if hints else None
    return Tool(name=name, input_schema=schema, annotations=annotations)


@pytest.mark.parametrize(
    ("hints", "effect"),
    [
        ({}, Effect.ONCE),
        ({"read_only_hint": True}, Effect.NONE),
        ({"idempotent_hint": True}, Effect.IDEMPOTENT),
        ({"read_only_hint": False, "destructive_hint": False}, Effect.ONCE),
    ],
)
def test_annotations_say_the_effect(hints: dict[str, bool], effect: Effect) -> None:
    [tool] = listed(server_of(settings()), [a_tool(hints=hints)]).tools

    assert (tool.tool.name, tool.effect, tool.approval) == ("shop__buy", effect, Approval.ON_EFFECT)


def test_operator_wins_over_annotations() -> None:
    policies = {"buy": {"effect": "once", "approval": "always", "timeout_s": 5}}

    [tool] = listed(server_of(settings(policies=policies)), [a_tool(hints={"read_only_hint": True})]).tools

    assert (tool.effect, tool.approval, tool.timeout_s) == (Effect.ONCE, Approval.ALWAYS, 5.0)


def _nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


@pytest.mark.parametrize(
    ("tool", "fault"),
    [
        (a_tool("with space"), "its name"),
        (a_tool("x" * 64), "its name"),
        (a_tool("a/b"), "its name"),
        (a_tool(schema={"type": "string"}), "not of an object"),
        (a_tool(schema={**OBJECT, "$ref": "https://example.com/schema.json"}), "another document"),
        (a_tool(schema={**OBJECT, "properties": {"a": {"$ref": "file:///etc/passwd"}}}), "another document"),
        (a_tool(schema={**OBJECT, "description": "x" * 40_000}), "longer than"),
        (a_tool(schema=_nested(40)), "nested deeper"),
        (a_tool(schema={**OBJECT, "properties": {"a": {"type": "nonsense"}}}), "nonsense"),
    ],
    ids=["space", "long", "slash", "string", "remote", "file", "large", "deep", "invalid"],
)
def test_tool_that_no_model_should_see_is_refused(tool: Tool, fault: str) -> None:
    found = listed(server_of(settings()), [tool, a_tool("fine")])

    assert [one.tool.name for one in found.tools] == ["shop__fine"]
    assert fault in found.refused[tool.name]


def test_tools_beyond_the_bound_and_second_ones_of_a_name_are_refused() -> None:
    found = listed(server_of(settings()), [a_tool(), a_tool(), *(a_tool(f"t{number}") for number in range(200))])

    assert len(found.tools) == 128
    assert found.refused["buy"] == "it is listed twice"
    assert "more than 128" in found.refused["t199"]


def test_tools_that_the_operator_does_not_name_are_not_mentioned() -> None:
    found = listed(server_of(settings(tools=["buy"])), [a_tool(), a_tool("sell")])

    assert ([one.tool.name for one in found.tools], found.refused) == (["shop__buy"], {})
