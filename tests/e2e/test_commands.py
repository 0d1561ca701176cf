"""`make dev` and `make demo`, with the embedded model: their behaviour and output for a user."""

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from mesh_common.grpc.edges import SERVICES
from support.net import free_port_base

ROOT = Path(__file__).parents[2]
WITHIN_S = 240


@asynccontextmanager
async def mesh_dev(command: str, **env: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "mesh_dev",
        command,
        env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"MESH_PORT_BASE": str(free_port_base()), "MESH_DATA_DIR": str(tmp_path / "data")}


@pytest.mark.timeout(WITHIN_S + 30)
async def test_demo_shows_one_conversation_through_the_whole_mesh(env: dict[str, str]) -> None:
    async with mesh_dev("demo", **env) as process, asyncio.timeout(WITHIN_S):
        output = (await process.communicate())[0].decode()

    assert process.returncode == 0, output
    for line in (
        "waiting for ",
        "a model of 135 million parameters",
        "registered and logged in",
        "you: My name is Ada and I am allergic to peanuts.",
        "mesh: The four seasons are",
        "the user's own sentence",
        "mesh: You are allergic to peanuts",
        "recalled: My name is Ada and I am allergic to peanuts.",
        "all processes are stopped",
    ):
        assert line in output
    for metric in ("conciseness", "hallucination", "helpfulness", "relevancy", "toxicity"):
        assert re.search(rf"^   {metric} +(judged|failed)$", output, re.MULTILINE)
    assert "values are hidden, because this model is too small to judge" in output
    assert output.index("a model of 135 million parameters") < output.index("mesh: The four seasons are")
    next_steps = output.partition("all processes are stopped")[2].splitlines()[2:]
    assert next_steps[0] == "What next:"
    assert "OPENAI_API_KEY=… make dev" in next_steps[1]
    assert f"http://127.0.0.1:{env['MESH_PORT_BASE']}/openapi.json" in next_steps[2]
    for page, line in zip(("docs/api/README.md", "docs/operations/README.md"), next_steps[3:], strict=True):
        assert page in line
        assert (ROOT / page).exists()
    for service in SERVICES:
        assert re.search(rf"[─ ]{service}: .+ (ms|s)\b|^{service}: ", output, re.MULTILINE)
        assert re.search(rf"/metrics  {service}, \d+ metrics", output)


@pytest.mark.timeout(WITHIN_S + 30)
async def test_dev_says_how_to_use_it_and_stops_on_interrupt(env: dict[str, str]) -> None:
    async with mesh_dev("dev", **env) as process, asyncio.timeout(WITHIN_S):
        assert process.stdout is not None
        lines = []
        async for raw in process.stdout:
            lines.append(raw.decode().strip())
            if lines[-1].startswith("Press Ctrl-C"):
                break
        commands = [line for line in lines if "curl " in line]
        shell = await asyncio.create_subprocess_exec(
            "bash", "-c", "\n".join(commands), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        answer = (await shell.communicate())[0].decode()
        process.send_signal(signal.SIGINT)
        await process.wait()

    assert len(commands) == 3, lines
    assert '"email":"ada@example.com"' in answer, answer
    assert "event: message_delta" in answer, answer
    assert "event: run_finished" in answer, answer
    assert process.returncode == 0


async def test_taken_port_gives_one_line(env: dict[str, str]) -> None:
    base = int(env["MESH_PORT_BASE"])
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", base + 4)
    async with server, mesh_dev("demo", **env) as process:
        output = (await process.communicate())[0].decode()

    assert process.returncode == 1
    assert len(output.splitlines()) == 1
    assert output.startswith(f"mesh: port {base + 4}, needed for agent, is taken: ")
    assert f"set MESH_PORT_BASE to another base (it is {base})" in output


async def test_bad_setting_gives_one_line() -> None:
    async with mesh_dev("dev", MESH_PORT_BASE="seven") as process:
        output = (await process.communicate())[0].decode()

    assert process.returncode == 2
    assert re.fullmatch(r"MESH_PORT_BASE: Input should be a valid integer.*\n", output)


async def test_trace_without_a_stack_gives_one_line() -> None:
    base = str(free_port_base())
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "mesh_dev",
        "trace",
        "0" * 32,
        env={"MESH_PORT_BASE": base},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = (await process.communicate())[0].decode()

    assert process.returncode == 1
    assert output.startswith("mesh: no stack answers on port ")
    assert len(output.splitlines()) == 1
