"""Many schedules on one cluster: one line each, and their totals."""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from chaos.cluster import Cluster
from chaos.schedule import Result, run_schedule

# Fewer schedules may miss a kind of event by chance, and a single one is often run again.
_FLOORS_FROM: Final = 10
_MIN_RUNS_A_SCHEDULE: Final = 8
_MIN_PART_ENDED_WELL: Final = 0.8


@dataclass(slots=True)
class Campaign:
    """The totals of all schedules."""

    first_seed: int
    schedules: int = 0
    violations: int = 0
    took_s: float = 0.0
    takeovers: int = 0
    """Runs with more than one attempt."""
    once_marks: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    failed_seeds: list[int] = field(default_factory=list)

    def add(self, result: Result) -> None:
        self.schedules += 1
        self.violations += len(result.violations)
        self.took_s += result.took_s
        self.takeovers += result.takeovers
        self.once_marks += sum(mark.tool == "mark_once" for mark in result.history.marks)
        self.outcomes += result.outcomes
        self.statuses += result.statuses
        if result.violations:
            self.failed_seeds.append(result.seed)

    def missed_floors(self) -> Sequence[str]:
        """Minimum counts that the campaign missed, so rules were not exercised. None apply to few schedules."""
        if self.schedules < _FLOORS_FROM:
            return ()
        runs = self.statuses.total()
        ended_well = self.statuses["succeeded"] + self.statuses["cancelled"]
        reached = {
            f"{_MIN_RUNS_A_SCHEDULE} runs per schedule": runs >= _MIN_RUNS_A_SCHEDULE * self.schedules,
            f"{_MIN_PART_ENDED_WELL:.0%} succeeded or cancelled": ended_well >= _MIN_PART_ENDED_WELL * runs,
            "a takeover": self.takeovers > 0,
            "a mark of a `once` call": self.once_marks > 0,
            "a cancelled run": self.statuses["cancelled"] > 0,
        }
        return [floor for floor, is_reached in reached.items() if not is_reached]

    @property
    def has_passed(self) -> bool:
        return not self.violations and not self.missed_floors()

    def verdict(self) -> str:
        outcomes = ", ".join(f"{self.outcomes[name]:,} {name}" for name in ("ok", "fail", "unknown"))
        runs = ", ".join(f"{count:,} {name}" for name, count in self.statuses.most_common())
        return (
            f"chaos: {self.schedules} schedules, {self.violations} violations, "
            f"{self.outcomes.total():,} operations ({outcomes}), {self.statuses.total():,} runs ({runs}), "
            f"{self.takeovers:,} taken over, {self.once_marks:,} once marks, {self.took_s:.0f} s, "
            f"seed {self.first_seed}: {self._verdict()}"
        )

    def _verdict(self) -> str:
        faults = [f"seeds {self.failed_seeds}"] if self.violations else []
        faults += [f"not reached: {floor}" for floor in self.missed_floors()]
        return f"FAILED, {'; '.join(faults)}" if faults else "PASSED"


async def run_campaign(cluster: Cluster, *, count: int, seed: int, histories: Path) -> Campaign:
    """Saves histories with violations in `histories`. Stops after a schedule that hangs: the cluster may be damaged."""
    campaign = Campaign(seed)
    for number in range(seed, seed + count):
        result = await run_schedule(cluster, number)
        campaign.add(result)
        say(f"{campaign.schedules}/{count} {result}")
        if result.violations:
            for violation in result.violations:
                say(f"  {violation}")
            say(f"  again: make chaos N=1 SEED={number}; history: {_keep(result, histories)}")
        if not result.is_finished:
            break
    return campaign


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _keep(result: Result, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"seed-{result.seed}.jsonl"
    path.write_bytes(b"".join(result.history.lines()))
    return path
