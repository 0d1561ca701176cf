"""examples/research-graph through the whole mesh, installed as its documentation says: approved, and killed."""

import asyncio
import json
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path

import pytest
from mesh_dev.stack import Stack
from support.api import User, eventually, new_user
from support.doc_blocks import ROOT
from support.installed_example import install_example
from support.stack import open_stack
from support.tool_server import ToolServer, running_tool_server

EXAMPLE = ROOT / "examples" / "research-graph"


@pytest.fixture(scope="module")
async def tool() -> AsyncIterator[ToolServer]:
    async with running_tool_server() as server:
        yield server


@pytest.fixture(scope="module")
async def stack(
    tmp_path_factory: pytest.TempPathFactory, mesh_template: Path, tool: ToolServer
) -> AsyncIterator[Stack]:
    folder = tmp_path_factory.mktemp("research")
    packages = await install_example(EXAMPLE.name, folder / "packages")
    environment = {
        "PYTHONPATH": str(packages),
        "AGENT_ASSISTANTS_DIR": str(EXAMPLE),
        "AGENT_HTTP_TOOLS": json.dumps([_tool(tool, "web_search", "none"), _tool(tool, "publish", "once")]),
        "AGENT_LEASE_TTL_S": "3",
    }
    async with open_stack(folder, mesh_template, service_env={"agent": environment}) as running:
        yield running


@pytest.fixture
async def user(stack: Stack) -> AsyncIterator[User]:
    async with new_user(stack.url) as registered:
        yield registered


def _tool(server: ToolServer, name: str, effect: str) -> dict[str, object]:
    texts = {"type": "string"}
    parameters = {"type": "object", "properties": {"query": texts, "title": texts, "text": texts}}
    return {"name": name, "description": name, "url": server.url, "parameters": parameters, "effect": effect}


async def test_research_is_published_once_after_approval_although_the_agent_is_killed(
    user: User, stack: Stack, tool: ToolServer
) -> None:
    turn = await user.stream("/chatbot/chat/stream", {"message": "What do parrots eat?", "assistant": "research"})
    steps = [fields["step"] for fields in turn.all("step_started")]
    [asked] = turn.first("run_interrupted")["interrupts"]
    searched = len(tool.calls)
    await stack.kill("agent")
    await stack.restart("agent")
    await eventually("the agent", lambda: user.get("/threads"), lambda response: response.status_code == HTTPStatus.OK)
    approved = {"decisions": [{"call_id": asked["call_id"], "decision": "approve"}]}
    resumed = await user.stream(f"/runs/{turn.run_id}/resume/stream", approved)
    run = (await user.get(f"/runs/{turn.run_id}")).json()

    assert steps[0] == "plan"
    assert steps[-2:] == ["write", "publish"]
    assert set(steps[1:-2]) == {"search"}
    assert searched == len(steps) - 3
    assert (asked["tool"], asked["arguments"]["title"]) == ("publish", "What do parrots eat?")
    assert asked["arguments"]["text"] == turn.text
    assert resumed.text == "The report is published."
    assert [call.arguments.get("title") for call in tool.calls[searched:]] == ["What do parrots eat?"]
    assert (run["assistant"], run["status"]) == ("research", "interrupted")


async def test_graph_goes_on_in_the_step_in_which_its_agent_was_killed(
    user: User, stack: Stack, tool: ToolServer
) -> None:
    tool.calls.clear()
    tool.called.clear()
    tool.answers.clear()
    body = {"message": "What do owls eat?", "assistant": "research"}
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(user.stream("/chatbot/chat/stream", body))
        await tool.called.wait()
        await stack.kill("agent")
        tool.answers.set()
        await stack.restart("agent")
    turn = reading.result()

    restarted = [event for event in turn.events if event.type in {"run_restarted", "step_started"}]
    after = restarted[[event.type for event in restarted].index("run_restarted") + 1 :]
    # The plan is not made again; a search, which has no effect, is.
    assert "plan" not in [event.fields["step"] for event in after]
    assert [event.fields["step"] for event in after][-2:] == ["write", "publish"]
    assert turn.last.type == "run_interrupted"
