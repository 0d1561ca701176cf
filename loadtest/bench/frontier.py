"""Measures how many turns per second the mesh sustains before latency grows: an open loop with increasing rates."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from bench.generator import Generator
from bench.latency import ends, felt, success
from bench.load import Plan
from bench.stack import Mesh

BOUNDS_MS: Final = (10, 50, 100, 250)
# Enough threads for all concurrent turns, even if a turn takes three times as long as the model.
_SLACK: Final = 3.0
_TURNS_PER_USER: Final = 4


@dataclass(frozen=True, slots=True)
class Step:
    rate: float
    """Turns due per second."""
    latency: Mapping[str, float]
    success: float
    ends: Mapping[str, int]
    load_generator_cores: float


async def climb(mesh: Mesh, generator: Generator, rates: Sequence[float], step_s: float) -> AsyncIterator[Step]:
    """Yields steps until turns fail or the latency exceeds all bounds."""
    for rate in rates:
        turns = int(rate * step_s)
        threads = int(rate * mesh.pace.turn_s * _SLACK) + 20
        plan = Plan(mesh.url, max(1, threads // _TURNS_PER_USER), turns, rate=rate)
        await generator.run(Plan(plan.url, plan.users, turns=0, streams=1), threads)
        seen = await generator.run(plan, threads)
        step = Step(rate, felt(seen.turns, mesh.pace), success(seen.turns), ends(seen.turns), seen.cpu_s / seen.took_s)
        yield step
        if step.success < 1 or step.latency["added_turn_ms_p99"] > BOUNDS_MS[-1]:
            return


def frontier(steps: Sequence[Step]) -> dict[str, float]:
    """For each bound on the p99 of a turn's added latency: the highest rate within it, or 0."""
    kept = {bound: [s.rate for s in steps if s.success == 1 and _p99(s) <= bound] for bound in BOUNDS_MS}
    return {f"{bound}_ms": max(rates, default=0.0) for bound, rates in kept.items()}


def as_json(steps: Sequence[Step]) -> list[dict[str, Any]]:
    return [asdict(step) for step in steps]


def _p99(step: Step) -> float:
    return step.latency["added_turn_ms_p99"]
