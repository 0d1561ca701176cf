"""Migrations that git's history holds, against those in the working tree."""

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_MIGRATIONS: Final = ":(glob)services/*/mesh_*/migrations/versions/*.py"
_SHALLOW: Final = (
    "the clone is shallow: migrations were compared with its oldest commit alone; git fetch --unshallow for all"
)
# Where changes land. A clone for a pull request has the first alone.
_MAIN: Final = ("origin/main", "main")


@dataclass(frozen=True, slots=True)
class Comparison:
    """`changed` tells of each migration that is not as it landed; `limits` of what could not be seen, if anything."""

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
            # Newest first: the last to be seen is the oldest.
            first[line] = commit
    return first


def _landed_commit(root: Path) -> str:
    """What this working tree has in common with main; its own commit where there is no main."""
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
