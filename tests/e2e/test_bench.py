"""The plumbing of `make bench`, and bounds on a turn's statements, bytes and messages: counts, not times."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
# Length of the simulator's answers.
TOKENS = 100
# For a plain turn without pacing. A change that writes or sends more must raise them deliberately. The bound on WAL
# allows for full pages that are written after a checkpoint.
BOUNDS = {
    "statements": 22,
    "commits": 7,
    "rows": 13,
    "wal_bytes": 25_000,
    "redis_commands": 13,
    "grpc_messages": 13,
}


async def bench(folder: Path, *parts: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench",
        *parts,
        "--small",
        f"--results={folder}",
        cwd=ROOT / "loadtest",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    found: dict[str, Any] = orjson.loads((folder / "bench.json").read_bytes())
    return found


@pytest.fixture(scope="module")
async def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The figures of all parts. They take three minutes on two cores, so only nightly tests use them."""
    return await bench(tmp_path_factory.mktemp("bench"))


@pytest.mark.timeout(300)
async def test_a_turn_writes_and_sends_no_more_than_it_has_to(tmp_path: Path) -> None:
    figures = await bench(tmp_path, "counts")

    early = figures["counts_per_turn"]["early"]
    assert {name: count for name, count in early.items() if count > BOUNDS[name]} == {}


@pytest.mark.nightly
@pytest.mark.timeout(600)
async def test_every_documented_figure_is_there(figures: dict[str, Any]) -> None:
    readme = (ROOT / "loadtest" / "README.md").read_text()

    assert [key for key in figures if f"`{key}`" not in readme and f"`…_{key.split('turn_')[-1]}`" not in readme] == []
    assert figures["cpu_ms_per_turn"]["total"] > 0
    assert figures["steps"][0]["success"] == 1


@pytest.mark.nightly
async def test_recall_finds_the_nearest_memories(figures: dict[str, Any]) -> None:
    assert figures["recall"]["recall_at_10"]["lowest"] == 1


@pytest.mark.nightly
async def test_storm_of_logins_is_counted_by_answer(figures: dict[str, Any]) -> None:
    storm = figures["login_storm"]

    assert storm["answers"]["200"] > 0
    assert storm["per_s"]["logins"]["median"] > 0
    assert set(storm["chat_ends"]) == {"run_finished"}


@pytest.mark.nightly
async def test_turns_of_the_least_mesh_are_whole(figures: dict[str, Any]) -> None:
    for way in ("paced", "burst"):
        assert set(figures["bare"][way]["ends"]) == {"run_finished"}
        assert figures["bare"][way]["tokens_bare"] == TOKENS
        assert figures["bare"][way]["cpu_ms_per_turn_bare"]["total"]["median"] > 0
