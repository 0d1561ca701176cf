"""The programs that scripts/deploy-tools.sh puts under .mesh/tools/deploy."""

import subprocess
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
_TOOLS: Final = ROOT / ".mesh/tools/deploy"
SCHEMAS: Final = _TOOLS / "schemas"
_PATIENCE_S: Final = 60


class MissingProgram(Exception):
    """The message names the command that installs the program."""


def program(name: str) -> str:
    path = _TOOLS / "bin" / name
    if not path.exists():
        raise MissingProgram(f"{name} is not installed: run scripts/deploy-tools.sh")
    return str(path)


def run(name: str, *arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    """The result, even of a failure; the caller checks `returncode`."""
    return subprocess.run(
        [program(name), *arguments], input=stdin, capture_output=True, text=True, check=False, timeout=_PATIENCE_S
    )
