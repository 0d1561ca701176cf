"""The output of `make bench`: lines on the terminal, and one JSON file per run in `loadtest/results/`.

The top-level keys of the JSON are stable; README.md describes them.
"""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson
from mesh_common.clock import utc_now

from bench.interpreter import loop_ms
from bench.statistics import Spread

RESULTS: Final = Path(__file__).parents[1] / "results"


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def table(title: str, figures: Mapping[str, Spread | float | int]) -> None:
    say(f"\n{title}")
    width = max((len(name) for name in figures), default=0)
    for name, figure in figures.items():
        say(f"  {name.ljust(width)}  {figure if isinstance(figure, Spread) else f'{figure:.1f}'}")


def machine() -> dict[str, Any]:
    """The machine and software on which the figures were measured."""
    return {
        "commit": _git("rev-parse", "--short", "HEAD") + ("+" if _git("status", "--porcelain") else ""),
        "taken_at": utc_now().isoformat(timespec="seconds"),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "python_loop_ms": loop_ms(),
        "kernel": platform.release(),
    }


def write(figures: Mapping[str, Any], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "bench.json"
    path.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2))
    return path


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False, cwd=RESULTS.parent)  # noqa: S603, S607
    return done.stdout.strip()
