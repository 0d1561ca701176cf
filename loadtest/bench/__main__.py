"""`python -m bench`: measures the cost of a chat turn and how many turns per second the mesh sustains.

It starts its own mesh with the model simulator, drives it and stops it. Everything runs on loopback.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from bench import plot
from bench.bare import run_bare
from bench.baseline import compare
from bench.parts import run_costs, run_counts, run_frontier, run_recall, run_storm
from bench.report import RESULTS, machine, say, write
from bench.size import FULL, SMALL, Size

PARTS: Final = ("counts", "turns", "frontier", "recall", "storm", "bare")


async def bench(size: Size, parts: Sequence[str], baseline: str | None, results: Path) -> int:
    """Returns the exit code: 1 if a count grew with the thread or a memory was not found."""
    figures: dict[str, Any] = {"machine": machine()}
    code = 0
    if "counts" in parts:
        figures["counts_per_turn"], code = await run_counts(size)
    if "turns" in parts:
        figures |= await run_costs(size)
    if "frontier" in parts:
        figures |= await run_frontier(size)
    if "recall" in parts:
        figures["recall"], missed = await run_recall(size)
        code = max(code, missed)
    if baseline:
        figures["baseline"] = (await compare(size, baseline)).as_json()
    if "storm" in parts:
        figures["login_storm"] = await run_storm(size)
    if "bare" in parts:
        figures["bare"] = await run_bare(size)
    path = write(figures, results)
    say(f"\nwritten: {path}")
    for plotted in plot.draw(figures, path.with_suffix("")):
        say(f"written: {plotted}")
    return code


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"{', '.join(PARTS)}; default: all")
    parser.add_argument("--small", action="store_true", help="run for three minutes to test the code, not to measure")
    parser.add_argument(
        "--baseline", metavar="COMMIT", help="compare the cost of a turn with this commit; without parts, nothing else"
    )
    parser.add_argument("--streams", type=int, metavar="N", help="streams at once in turns, bare and --baseline (100)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for what is written")
    arguments = parser.parse_args()
    parts = arguments.parts or (() if arguments.baseline else PARTS)
    if unknown := set(parts) - set(PARTS):
        parser.error(f"unknown: {', '.join(unknown)}")
    size = SMALL if arguments.small else FULL
    if arguments.streams:
        size = replace(size, streams=arguments.streams)
    return asyncio.run(bench(size, parts, arguments.baseline, arguments.results))


if __name__ == "__main__":
    sys.exit(main())
