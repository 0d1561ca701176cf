"""Tools of MCP servers, called by the agent as it runs."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import pytest
from mesh.agent.v1 import agent_pb2 as pb
from mesh_common.ids import UserId
from support.agent import AgentUnderTest, Followed, agent_settings, running_agent, some_user
from support.approval import asked, decision, resume, resume_request
from support.mcp_server import McpShop, a_shop, running_shop
from support.mesh import TestMesh


@pytest.fixture
async def shop() -> AsyncIterator[McpShop]:
    async with running_shop(a_shop()) as running:
        yield running


def shopping(
    mesh: TestMesh, model_url: str, shop: McpShop, **more: object
) -> AbstractAsyncContextManager[AgentUnderTest]:
    return running_agent(mesh, agent_settings(mesh, model_url, AGENT_MCP_SERVERS=shop.as_setting(**more)))


def calling(tool: str, **arguments: object) -> str:
    return f"[[sim:tool=shop__{tool} {json.dumps(arguments)}]] [[sim:reply=It says {{tool_result}}.]]"


async def until_known(agent: AgentUnderTest, user_id: UserId, message: str) -> Followed:
    """The first turn in which the tool is known: servers are asked in the background."""
    async with asyncio.timeout(15):
        while True:
            turn = await agent.run(user_id, message)
            if "There is no tool" not in turn.text:
                return turn


def result_of(turn: Followed) -> pb.ToolFinished:
    return next(event.tool_finished for event in turn.events if event.HasField("tool_finished"))


async def test_tool_of_a_server_is_called_with_the_calls_key_and_its_user(
    own_mesh: TestMesh, model_url: str, shop: McpShop
) -> None:
    user_id = some_user()
    async with shopping(own_mesh, model_url, shop, approval="never") as agent:
        priced = await until_known(agent, user_id, calling("price", item="tea"))
        ordered = await agent.run(user_id, calling("order", item="tea"))

    assert priced.text == "It says tea costs 5."
    assert ordered.text == "It says tea ordered."
    [(item, meta)] = shop.orders
    assert item == "tea"
    assert meta["agent-mesh/idempotency-key"].startswith(f"{ordered.run_id}:")
    assert meta["agent-mesh/on-behalf-of"] == str(user_id)


async def test_call_with_an_effect_needs_approval_by_default(own_mesh: TestMesh, model_url: str, shop: McpShop) -> None:
    user_id = some_user()
    async with shopping(own_mesh, model_url, shop) as agent:
        free = await until_known(agent, user_id, calling("price", item="tea"))
        turn = await agent.run(user_id, calling("order", item="tea"))
        [question] = asked(turn)
        before = len(shop.orders)
        resumed = await resume(agent, user_id, resume_request(turn.run_id, decision(question.call_id)))

    assert free.text == "It says tea costs 5."
    assert (question.tool, before, len(shop.orders)) == ("shop__order", 0, 1)
    assert resumed.text == "It says tea ordered."


@pytest.mark.parametrize(
    ("tool", "arguments", "is_error", "text"),
    [
        ("fail", {"text": "no more tea"}, True, "Error executing tool fail"),
        ("price", {"item": 5}, True, "The arguments are not valid"),
        ("flood", {}, True, "too large"),
        ("draw", {}, False, "an image of type image/png"),
    ],
)
async def test_result_is_told_to_the_model(
    own_mesh: TestMesh,
    model_url: str,
    shop: McpShop,
    tool: str,
    arguments: dict[str, object],
    is_error: bool,  # noqa: FBT001 - a parameter of the cases
    text: str,
) -> None:
    async with shopping(own_mesh, model_url, shop, approval="never") as agent:
        turn = await until_known(agent, some_user(), calling(tool, **arguments))

    result = result_of(turn)
    assert (result.is_error, text in result.content) == (is_error, True), result.content
    assert turn.last.HasField("run_finished")


async def test_only_the_tools_that_the_operator_names_are_taken_with_the_operators_policy(
    own_mesh: TestMesh, model_url: str, shop: McpShop
) -> None:
    user_id = some_user()
    policies = {"order": {"effect": "none"}}
    async with shopping(own_mesh, model_url, shop, tools=["order"], policies=policies) as agent:
        ordered = await until_known(agent, user_id, calling("order", item="tea"))
        priced = await agent.run(user_id, calling("price", item="tea"))

    # Without an effect there is nothing to approve.
    assert ordered.text == "It says tea ordered."
    assert "There is no tool" in priced.text


async def test_server_that_comes_and_goes_brings_and_takes_its_tools(own_mesh: TestMesh, model_url: str) -> None:
    user_id, shop = some_user(), a_shop()
    async with shopping(own_mesh, model_url, shop) as agent:
        away = await agent.run(user_id, calling("price", item="tea"))
        async with running_shop(shop):
            there = await until_known(agent, user_id, calling("price", item="tea"))
        async with asyncio.timeout(20):
            gone = there
            while gone.text == there.text or "There is no tool" not in gone.text:
                gone = await agent.run(user_id, calling("price", item="tea"))

    assert "There is no tool" in away.text
    assert there.text == "It says tea costs 5."
    assert gone.last.HasField("run_finished")


async def test_call_that_does_not_end_in_time_is_unknown(own_mesh: TestMesh, model_url: str) -> None:
    user_id, shop = some_user(), a_shop()
    shop.answers.clear()
    async with running_shop(shop), shopping(own_mesh, model_url, shop, approval="never", timeout_s=3) as agent:
        await until_known(agent, user_id, calling("price", item="tea"))
        turn = await agent.run(user_id, calling("order", item="tea"))

    result = result_of(turn)
    assert result.is_error
    assert result.is_unknown
    assert len(shop.orders) == 1
    assert turn.last.HasField("run_finished")


async def test_change_of_the_tools_arrives_before_the_next_regular_list(
    own_mesh: TestMesh, model_url: str, shop: McpShop
) -> None:
    """The agent lists the tools once a minute; the server says when they have changed."""
    user_id = some_user()
    async with shopping(own_mesh, model_url, shop, approval="never") as agent:
        await until_known(agent, user_id, calling("price", item="tea"))
        before = await agent.run(user_id, calling("stock", item="tea"))
        await agent.run(user_id, calling("restock"))
        turn = await until_known(agent, user_id, calling("stock", item="tea"))

    assert "There is no tool" in before.text
    assert turn.text == "It says tea: 7."
