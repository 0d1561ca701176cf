"""Counts the statements, commits, bytes and messages of turns, early and late in one thread. Independent of time."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bench.costs import settled
from bench.counters import read_counts
from bench.generator import Generator
from bench.load import Plan
from bench.stack import Mesh

_ALLOWED_GROWTH: Final = 1.1
_SLACK: Final = 0.5
# Turns that end within a tenth of a second share a claim and a settlement of the outbox: two commits of up to four
# statements, which a turn has alone or with others as it happens.
_SLACK_OF_SHARED: Final = {"statements": 2.5, "commits": 1.0}
# Services also poll when idle, at most once a second. This background is measured first and subtracted.
_IDLE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Flatness:
    early: Mapping[str, float]
    late: Mapping[str, float]

    @property
    def grown(self) -> list[str]:
        return [
            f"{name}: {self.early[name]:.1f} per turn early, {self.late[name]:.1f} late"
            for name in self.early
            if self.late[name] > self.early[name] * _ALLOWED_GROWTH + _SLACK_OF_SHARED.get(name, _SLACK)
        ]


async def measure_counts(mesh: Mesh, generator: Generator, *, turns: int, part: int) -> Flatness:
    """Counts for the `part` turns after the first `part`, and for the last `part` of `turns`."""
    await _turns(mesh, generator, part)
    idle = await _idle_rates(mesh)
    early = await _counted(mesh, generator, part, idle)
    await _turns(mesh, generator, turns - 3 * part)
    return Flatness(early, await _counted(mesh, generator, part, idle))


async def _idle_rates(mesh: Mesh) -> Mapping[str, float]:
    before = await read_counts(mesh)
    await asyncio.sleep(_IDLE_S)
    counted = (await read_counts(mesh)).since(before)
    took_s = counted.pop("at_s")
    return {name: count / took_s for name, count in counted.items()}


async def _counted(mesh: Mesh, generator: Generator, turns: int, idle: Mapping[str, float]) -> Mapping[str, float]:
    before = await read_counts(mesh)
    await _turns(mesh, generator, turns)
    counted = (await read_counts(mesh)).since(before)
    took_s = counted.pop("at_s")
    return {name: (count - idle[name] * took_s) / turns for name, count in counted.items()}


async def _turns(mesh: Mesh, generator: Generator, turns: int) -> None:
    """Runs turns sequentially in one thread."""
    seen = await generator.run(Plan(mesh.url, 1, turns, streams=1), threads=1)
    if failed := [turn.end for turn in seen.turns if not turn.has_succeeded]:
        raise RuntimeError(f"{len(failed)} turns failed: {failed[0]}")
    await settled(mesh)
