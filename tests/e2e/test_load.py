"""The plumbing of `make load`: Locust's users on a separate mesh."""

import asyncio
import importlib.util
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(200),
    pytest.mark.skipif(not importlib.util.find_spec("locust"), reason="needs Locust: make setup-load"),
]

LOADTEST = Path(__file__).parents[2] / "loadtest"


async def _crowd(folder: Path, *options: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.crowd",
        "--users=4",
        "--rate=4",
        "--duration=8s",
        f"--results={folder}",
        "--",
        "--think-min=0.2",
        "--think-max=0.5",
        "--people=mixed",
        *options,
        cwd=LOADTEST,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


async def test_people_talk_and_every_stream_comes_to_its_end(tmp_path: Path) -> None:
    code, output = await _crowd(tmp_path)

    assert code == 0, output
    assert "whole turn" in output
    assert (tmp_path / "load.html").stat().st_size > 0


@pytest.mark.nightly
async def test_a_threshold_that_is_passed_fails_the_run(tmp_path: Path) -> None:
    code, output = await _crowd(tmp_path, "--max-first-token-p99-ms=1")

    assert code == 1
    assert "load: FAILED: the p99 of the first token is" in output
