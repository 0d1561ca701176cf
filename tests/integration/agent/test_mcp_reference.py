"""The reference server of the Model Context Protocol, from npm: its tools through the agent.

It speaks the generation of the protocol that begins with `initialize`; the servers of the other tests speak the newest.
"""

import asyncio
import json
import os
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest
from support.agent import Followed, agent_settings, eventually, running_agent, some_user
from support.mesh import TestMesh
from support.net import free_port

PACKAGE: Final = "@modelcontextprotocol/server-everything"
VERSION: Final = "2026.8.31"
NODE, NPM = shutil.which("node"), shutil.which("npm")
pytestmark = pytest.mark.skipif(None in {NODE, NPM}, reason="no node or no npm: the reference server is not run")


async def _ran(folder: Path, *command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command, cwd=folder)
    async with asyncio.timeout(120):
        assert await process.wait() == 0


@pytest.fixture(scope="module")
async def url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    folder, port = tmp_path_factory.mktemp("everything"), free_port()
    await _ran(folder, str(NPM), "install", "--no-audit", "--no-fund", "--prefix", ".", f"{PACKAGE}@{VERSION}")
    program = folder / "node_modules" / PACKAGE / "dist" / "index.js"
    environment = {**os.environ, "PORT": str(port)}  # noqa: TID251 - node needs the rest
    process = await asyncio.create_subprocess_exec(
        str(NODE), str(program), "streamableHttp", env=environment, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await eventually(lambda: asyncio.to_thread(_listens, port), bool)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def _calling(tool: str, arguments: object) -> str:
    return f"[[sim:tool=everything__{tool} {json.dumps(arguments)}]] [[sim:reply=It says {{tool_result}}]]"


@pytest.mark.parametrize(
    ("tool", "arguments", "answer"),
    [
        ("echo", {"message": "Grüße, 서울"}, "It says Echo: Grüße, 서울"),
        ("get-sum", {"a": 2, "b": 40}, "42"),
        ("get-structured-content", {"location": "Chicago"}, "temperature"),
        ("get-tiny-image", {}, "an image of type image/png"),
        ("get-sum", {"a": "two", "b": 40}, "The arguments are not valid: a: "),
    ],
)
async def test_tool_of_the_reference_server_answers(
    own_mesh: TestMesh, model_url: str, url: str, tool: str, arguments: dict[str, object], answer: str
) -> None:
    user_id = some_user()
    setting = json.dumps([{"name": "everything", "url": url, "approval": "never"}])
    async with running_agent(own_mesh, agent_settings(own_mesh, model_url, AGENT_MCP_SERVERS=setting)) as agent:
        # Servers are asked in the background.
        turn: Followed = await eventually(
            lambda: agent.run(user_id, _calling(tool, arguments)), lambda one: "There is no tool" not in one.text
        )

    assert answer in turn.text
    assert turn.last.HasField("run_finished")
