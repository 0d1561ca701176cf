"""Tools for the user's memory through the whole mesh: what a run keeps is the user's own, and is deleted as theirs."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mesh_dev.stack import Stack
from support.api import User, new_user
from support.stack import open_stack

FACT = "The user lives in Rome."


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory, mesh_template: Path) -> AsyncIterator[Stack]:
    folder = tmp_path_factory.mktemp("remembering")
    async with open_stack(folder, mesh_template, service_env={"agent": {"AGENT_MEMORY_TOOLS": "true"}}) as running:
        yield running


def _calling(tool: str, **arguments: str) -> str:
    return f"[[sim:tool={tool} {json.dumps(arguments)}]] [[sim:reply=It says {{tool_result}}.]]"


async def test_run_keeps_finds_and_deletes_a_memory_of_its_user_alone(user: User, stack: Stack) -> None:
    async with new_user(stack.url) as stranger:
        await user.chat(_calling("remember", text=FACT))
        [memory] = [one for one in await user.items("/memories") if one["text"] == FACT]
        found = await user.chat(_calling("search_memory", query="Where does the user live?"))
        hidden = await stranger.chat(_calling("search_memory", query="Where does the user live?"))
        refused = await stranger.chat(_calling("forget", memory_id=memory["id"]))
        await user.chat(_calling("forget", memory_id=memory["id"]))

    assert f"{memory['id']} {FACT}" in found.text
    assert memory["id"] not in hidden.text
    assert refused.first("tool_finished")["is_error"]
    assert memory["id"] not in [one["id"] for one in await user.items("/memories")]
