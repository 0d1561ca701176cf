"""How many turns a second the mesh takes before clients feel it: an open loop, faster step by step."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from bench.generator import Generator
from bench.latency import ends, felt, success
from bench.load import Plan
from bench.stack import Mesh

BOUNDS_MS: Final = (10, 50, 100, 250)
# Threads for all turns that are open at once, also when they take three times what the model takes.
_SLACK: Final = 3.0
_TURNS_PER_USER: Final = 4


@dataclass(frozen=True, slots=True)
class Step:
    rate: float
    """Turns that fell due in a second."""
    latency: Mapping[str, float]
    success: float
    ends: Mapping[str, int]
    load_generator_cores: float


async def climb(mesh: Mesh, generator: Generator, rates: Sequence[float], step_s: float) -> AsyncIterator[Step]:
    """Until the mesh fails turns, or holds none of the bounds."""
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
    """By bound on the p99 of a turn's added latency: the highest rate that kept it; 0 when none did."""
    kept = {bound: [s.rate for s in steps if s.success == 1 and _p99(s) <= bound] for bound in BOUNDS_MS}
    return {f"{bound}_ms": max(rates, default=0.0) for bound, rates in kept.items()}


def as_json(steps: Sequence[Step]) -> list[dict[str, Any]]:
    return [asdict(step) for step in steps]


def _p99(step: Step) -> float:
    return step.latency["added_turn_ms_p99"]
