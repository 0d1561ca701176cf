"""`python -m chaos schedules --count 200 --seed 1`: many schedules on one cluster, one line each, a verdict at last."""

import argparse
import asyncio
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chaos.cluster import Cluster, open_cluster
from chaos.schedule import Result, run_schedule


@dataclass(slots=True)
class Campaign:
    """What all schedules together came to."""

    first_seed: int
    schedules: int = 0
    violations: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    failed_seeds: list[int] = field(default_factory=list)

    def add(self, result: Result) -> None:
        self.schedules += 1
        self.violations += len(result.violations)
        self.outcomes += result.outcomes
        self.statuses += result.statuses
        if result.violations:
            self.failed_seeds.append(result.seed)

    def verdict(self) -> str:
        outcomes = ", ".join(f"{self.outcomes[name]:,} {name}" for name in ("ok", "fail", "unknown"))
        runs = ", ".join(f"{count:,} {name}" for name, count in self.statuses.most_common())
        verdict = f"FAILED, seeds {self.failed_seeds}" if self.violations else "PASSED"
        return (
            f"chaos: {self.schedules} schedules, {self.violations} violations, "
            f"{self.outcomes.total():,} operations ({outcomes}), {self.statuses.total():,} runs ({runs}), "
            f"seed {self.first_seed}: {verdict}"
        )


async def run_campaign(cluster: Cluster, *, count: int, seed: int, histories: Path) -> Campaign:
    """The histories of bad schedules are kept in `histories`."""
    campaign = Campaign(seed)
    for number in range(seed, seed + count):
        result = await run_schedule(cluster, number)
        campaign.add(result)
        _say(f"{campaign.schedules}/{count} {result}")
        if result.violations:
            for violation in result.violations:
                _say(f"  {violation}")
            _say(f"  again: make chaos N=1 SEED={number}; history: {_keep(result, histories)}")
    return campaign


def _keep(result: Result, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"seed-{result.seed}.jsonl"
    path.write_bytes(b"".join(result.history.lines()))
    return path


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def _schedules(count: int, seed: int, data_dir: Path) -> int:
    async with open_cluster(data_dir) as cluster:
        campaign = await run_campaign(cluster, count=count, seed=seed, histories=data_dir / "histories")
    _say(campaign.verdict())
    return 1 if campaign.violations else 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    schedules = commands.add_parser("schedules", help="seeded schedules of faults, checked")
    schedules.add_argument("--count", type=int, default=15, help="how many; their seeds follow one another")
    schedules.add_argument("--seed", type=int, default=1, help="of the first")
    schedules.add_argument("--data-dir", type=Path, help="kept afterwards; a temporary folder when absent")
    options = parser.parse_args(arguments)
    data_dir = options.data_dir or Path(tempfile.mkdtemp(prefix="mesh-chaos-"))
    try:
        return asyncio.run(_schedules(options.count, options.seed, data_dir.resolve()))
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
