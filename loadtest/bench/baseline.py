"""Compares the cost of a turn with another commit. Batches alternate, because the machine's speed drifts in minutes."""

import io
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.costs import TURN_PATH, measure_batch
from bench.generator import open_generator
from bench.report import say, table
from bench.size import Size
from bench.stack import PACED, open_mesh
from bench.statistics import Spread, as_json, ratios, spreads

_ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Comparison:
    """CPU in milliseconds per turn. `ratio` is this commit's to the baseline's, for each pair of batches."""

    baseline: str
    before: Mapping[str, Spread]
    after: Mapping[str, Spread]
    ratio: Mapping[str, Spread]

    def as_json(self) -> dict[str, Any]:
        return {
            "commit": self.baseline,
            "cpu_ms_per_turn": as_json(self.before),
            "cpu_ms_per_turn_here": as_json(self.after),
            "ratio": as_json(self.ratio),
        }


async def compare(size: Size, baseline: str) -> Comparison:
    """Raises CalledProcessError if git does not know the commit."""
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as name:
        folder = Path(name)
        code = check_out(baseline, folder / "code")
        async with (
            open_mesh(folder / "here", PACED) as here,
            open_mesh(folder / "there", PACED, service_env={"PYTHONPATH": code}) as there,
            open_generator() as of_there,
            open_generator() as of_here,
        ):
            # Each generator has accounts in one mesh only.
            both = ((there, of_there), (here, of_here))
            pairs = []
            for mesh, generator in both:
                await measure_batch(mesh, generator, streams=size.streams, turns=size.streams)
            for _ in range(size.repeats):
                before, after = [
                    (
                        await measure_batch(mesh, generator, streams=size.streams, turns=size.turns_of(size.streams))
                    ).cpu_ms_per_turn
                    for mesh, generator in both
                ]
                say(f"total {after['total']:.1f} ms per turn, {before['total']:.1f} at {baseline}")
                pairs.append((before, after))
    return compared(baseline, pairs)


def compared(baseline: str, pairs: Sequence[tuple[Mapping[str, float], Mapping[str, float]]]) -> Comparison:
    names = [*TURN_PATH, "total"]
    comparison = Comparison(
        baseline,
        before=spreads([{name: before[name] for name in names} for before, _ in pairs]),
        after=spreads([{name: after[name] for name in names} for _, after in pairs]),
        ratio=ratios([({name: before[name] for name in names}, after) for before, after in pairs]),
    )
    table(f"CPU, ms per turn, at {baseline}", comparison.before)
    table("here", comparison.after)
    table("ratio", comparison.ratio)
    return comparison


def check_out(commit: str, folder: Path) -> str:
    """Checks out the services of the commit, to run with the packages installed now. Returns the PYTHONPATH.

    The database's schema is that of the current commit, which may be ahead of the code.
    """
    archive = subprocess.run(  # noqa: S603 - git, with a commit named by the person who runs it
        ["git", "archive", "--format=tar", commit, "proto", "services"],  # noqa: S607
        cwd=_ROOT,
        check=True,
        capture_output=True,
    )
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    services = sorted(path for path in (folder / "services").iterdir() if path.is_dir())
    return os.pathsep.join(map(str, [folder / "proto" / "gen", *services]))
