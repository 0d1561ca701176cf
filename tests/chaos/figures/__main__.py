"""`python -m chaos.figures kill-points --count 100`: takes one measurement, prints figures and, last, a verdict."""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from chaos.figures import cancels, duplicates, flat, followers, kill_points, outages, overload
from chaos.figures.report import Report

type Measurement = Callable[[Report, Path, int, int], Awaitable[None]]

MEASUREMENTS: Mapping[str, tuple[Measurement, int]] = {
    "kill-points": (kill_points.measure, 100),
    "outages": (outages.measure, 120),
    "followers": (followers.drop, 1_000),
    "rolling": (followers.rolling, 1_000),
    "duplicates": (duplicates.measure, 2_000),
    "cancels": (cancels.measure, 100),
    "flat": (flat.measure, 1_000),
    "overload": (overload.measure, 300),
}
"""By name, each with its default count."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m chaos.figures", description=__doc__)
    parser.add_argument("name", choices=sorted(MEASUREMENTS))
    parser.add_argument("--count", type=int, help="how many of the things that it counts")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data-dir", type=Path, help="kept afterwards; a temporary folder when absent")
    options = parser.parse_args(arguments)
    measure, usual_count = MEASUREMENTS[options.name]
    data_dir = options.data_dir or Path(tempfile.mkdtemp(prefix="mesh-figures-"))
    report = Report(options.name)
    try:
        asyncio.run(_measured(measure(report, data_dir.resolve(), options.count or usual_count, options.seed)))
    except KeyboardInterrupt:
        return 130
    return report.verdict()


async def _measured(work: Awaitable[None]) -> None:
    await work


if __name__ == "__main__":
    sys.exit(main())
