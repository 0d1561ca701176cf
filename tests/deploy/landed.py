"""Compares the migrations in git's history with those in the working tree."""

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_MIGRATIONS: Final = ":(glob)services/*/mesh_*/migrations/versions/*.py"
_SHALLOW: Final = (
    "the clone is shallow: migrations were compared with its oldest commit alone; git fetch --unshallow for all"
)
# The branches where changes land. A clone for a pull request has only the first.
_MAIN: Final = ("origin/main", "main")


@dataclass(frozen=True, slots=True)
class Comparison:
    """`changed` describes each migration that differs from its landed state; `limits` what could not be checked."""

    changed: Sequence[str]
    limits: str = ""


def compare_migrations(root: Path) -> Comparison:
    changed = list(_changed(root, _landed_commit(root)))
    is_shallow = _git(root, "rev-parse", "--is-shallow-repository").strip() == b"true"
    return Comparison(changed, _SHALLOW if is_shallow else "")


def _changed(root: Path, landed: str) -> Iterator[str]:
    for path, commit in _first_commits(root, landed).items():
        file = root / path
        if not file.exists() or file.read_bytes() != _git(root, "show", f"{commit}:{path}"):
            yield f"{path} is not as commit {commit[:10]} brought it: undo that, and write a new one"


def _first_commits(root: Path, landed: str) -> dict[str, str]:
    """The commit that first added each migration."""
    log = _git(
        root, "log", "--diff-filter=A", "--no-renames", "--format=commit %H", "--name-only", landed, "--", _MIGRATIONS
    )
    first: dict[str, str] = {}
    commit = ""
    for line in log.decode().splitlines():
        if line.startswith("commit "):
            commit = line.removeprefix("commit ")
        elif line:
            # The log is newest first, so the last one found is the oldest.
            first[line] = commit
    return first


def _landed_commit(root: Path) -> str:
    """The last common commit of this working tree and main; its own commit if there is no main."""
    for main in _MAIN:
        found = _run(root, "merge-base", "HEAD", main)
        if found.returncode == 0:
            return found.stdout.decode().strip()
    return "HEAD"


def _git(root: Path, *arguments: str) -> bytes:
    done = _run(root, *arguments)
    done.check_returncode()
    return done.stdout


def _run(root: Path, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, check=False, timeout=30)
