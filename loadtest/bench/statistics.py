"""Medians with their spread, and percentiles."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Spread:
    """One figure, measured `repeats` times."""

    median: float
    lowest: float
    highest: float
    repeats: int

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.lowest:.2f} to {self.highest:.2f})"


def spread(values: Sequence[float]) -> Spread:
    return Spread(round(median(values), 3), round(min(values), 3), round(max(values), 3), len(values))


def spreads(repeats: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    """Spreads by name. Every repeat must have every name."""
    return {name: spread([one[name] for one in repeats]) for name in repeats[0]}


def ratios(pairs: Sequence[tuple[Mapping[str, float], Mapping[str, float]]]) -> dict[str, Spread]:
    """Ratios of the second to the first of each pair, for the names that are in every pair with a first above 0."""
    names = [name for name in pairs[0][0] if all(first.get(name) and name in second for first, second in pairs)]
    return {name: spread([second[name] / first[name] for first, second in pairs]) for name in names}


def percentile(values: Sequence[float], percent: float) -> float:
    """Nearest rank; 0.0 for no values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0


def percentiles(name: str, values: Sequence[float]) -> dict[str, float]:
    """p50, p95 and p99, as `name_p50` and so on."""
    return {f"{name}_p{percent}": round(percentile(values, percent), 1) for percent in (50, 95, 99)}


def as_json(figures: Mapping[str, Spread]) -> dict[str, dict[str, float]]:
    return {name: asdict(one) for name, one in figures.items()}
