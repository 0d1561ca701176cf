"""Plots the figures if matplotlib is installed (`make setup-load`)."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.costs import TURN_PATH


def draw(figures: Mapping[str, Any], stem: Path) -> Iterator[Path]:
    """Writes a plot for each available figure as SVG, and yields the paths."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - optional
    except ImportError:
        return
    if "cpu_ms_per_turn" in figures:
        yield _cpu(Figure(figsize=(7, 3), layout="constrained"), figures["cpu_ms_per_turn"], stem)
    if len(figures.get("steps", ())) > 1:
        yield _frontier(Figure(figsize=(7, 4), layout="constrained"), figures["steps"], stem)


def _cpu(figure: Any, cost: Mapping[str, float], stem: Path) -> Path:
    axes = figure.subplots()
    axes.barh(TURN_PATH[::-1], [cost[name] for name in TURN_PATH[::-1]])
    axes.set_xlabel(f"CPU, ms per turn of 100 tokens (total {cost['total']:.1f})")
    return _save(figure, stem, "cpu")


def _frontier(figure: Any, steps: list[Mapping[str, Any]], stem: Path) -> Path:
    axes = figure.subplots()
    rates = [step["rate"] for step in steps]
    for name in ("added_turn_ms_p50", "added_turn_ms_p99", "added_first_token_ms_p50", "added_first_token_ms_p99"):
        axes.plot(rates, [step["latency"][name] for step in steps], marker="o", label=name)
    axes.set(xlabel="turns per second", ylabel="ms", yscale="symlog")
    axes.legend()
    return _save(figure, stem, "frontier")


def _save(figure: Any, stem: Path, name: str) -> Path:
    path = stem.with_name(f"{stem.name}-{name}.svg")
    figure.savefig(path)
    return path
