"""The chart's value sets as last rendered and reviewed.

PYTHONPATH=tests .venv/bin/python -m deploy.goldens             tell what differs
PYTHONPATH=tests .venv/bin/python -m deploy.goldens --update    take what the chart gives now
"""

import argparse
import difflib
import sys
from itertools import islice
from pathlib import Path
from typing import Final

from deploy.helm import text_of, value_sets

FOLDER: Final = Path(__file__).parent / "goldens"
HOW_TO_UPDATE: Final = "PYTHONPATH=tests .venv/bin/python -m deploy.goldens --update"
_SHOWN_LINES: Final = 60


def difference(value_set: str) -> str:
    """Empty if the golden equals the chart's output."""
    path = path_of(value_set)
    before = path.read_text().splitlines() if path.exists() else []
    lines = difflib.unified_diff(
        before, text_of(value_set).splitlines(), f"goldens/{path.name}", "rendered", lineterm=""
    )
    shown = "\n".join(islice(lines, _SHOWN_LINES))
    if not shown:
        return ""
    return f"{value_set} renders to something else. If that is meant: {HOW_TO_UPDATE}\n{shown}"


def path_of(value_set: str) -> Path:
    return FOLDER / f"{value_set}.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(prog="deploy.goldens", description="The chart's goldens.")
    parser.add_argument("--update", action="store_true", help="write what the chart gives now")
    if parser.parse_args().update:
        _update()
        return
    if differences := [text for value_set in value_sets() if (text := difference(value_set))]:
        sys.exit("\n".join(differences))


def _update() -> None:
    FOLDER.mkdir(exist_ok=True)
    for stale in {*FOLDER.glob("*.yaml")} - {path_of(value_set) for value_set in value_sets()}:
        stale.unlink()
    for value_set in value_sets():
        path_of(value_set).write_text(text_of(value_set))


if __name__ == "__main__":
    main()
