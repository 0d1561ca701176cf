"""`python -m simulator` as other tests and the load harness start it."""

import asyncio
import sys
from pathlib import Path

import httpx
from simulator.client import SimulatorAdmin

LOADTEST = Path(__file__).parents[3] / "loadtest"


async def start(*flags: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "simulator", *flags, cwd=LOADTEST, stdout=-1, stderr=-1
    )


async def ready_url(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    assert line.startswith("simulator ready on http://127.0.0.1:")
    return line.split()[-1]


async def test_it_says_when_it_is_ready_obeys_its_flags_and_ends_at_sigterm_with_streams_open() -> None:
    process = await start("--port", "0", "--tokens", "3", "--seed", "9", "--ttft", "1", "--itl", "1")
    url = await ready_url(process)
    hanging = {"model": "m", "messages": [{"role": "user", "content": "[[sim:fault=hang@1]]"}], "stream": True}
    async with (
        httpx.AsyncClient(base_url=url, trust_env=False) as http,
        SimulatorAdmin(url) as admin,
        http.stream("POST", "/v1/chat/completions", json=hanging),
    ):
        streams_open = (await admin.stats())["streams_open"]

        process.terminate()
        status = await asyncio.wait_for(process.wait(), 5)

    assert streams_open == 1
    assert status == 0


async def test_a_wrong_setting_is_named() -> None:
    process = await start("--port", "99999", "--tokens", "0")

    _, errors = await process.communicate()

    assert process.returncode == 2
    assert b"port" in errors
    assert b"tokens" in errors


async def test_a_taken_port_gives_one_clear_line() -> None:
    first = await start("--port", "0")
    port = (await ready_url(first)).rpartition(":")[2]

    second = await start("--port", port)
    _, errors = await second.communicate()

    first.terminate()
    await first.communicate()
    assert second.returncode == 1
    (line,) = errors.decode().splitlines()
    assert line.startswith("simulator: cannot listen: ")
    assert port in line
