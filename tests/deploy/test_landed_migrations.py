"""A landed migration is never edited, because databases have already run it."""

import subprocess
from pathlib import Path

import pytest

from deploy.landed import compare_migrations
from deploy.programs import ROOT

_FOLDER = Path("services/agent/mesh_agent/migrations/versions")
_FIRST = _FOLDER / "0001_threads.py"
_SECOND = _FOLDER / "0002_runs.py"


def test_no_landed_migration_has_changed() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("no git repository here, so nothing tells what has landed")

    found = compare_migrations(ROOT)

    assert found.changed == []
    if found.limits:
        pytest.skip(found.limits)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with two migrations on main, one per commit."""
    folder = tmp_path / "origin"
    _git(tmp_path, "init", "--quiet", "--initial-branch=main", str(folder))
    for path in (_FIRST, _SECOND):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(f"revision = {path.name!r}\n")
        _commit(folder)
    return folder


def test_what_is_as_it_landed_is_no_fault(repository: Path) -> None:
    assert compare_migrations(repository).changed == []


def test_a_new_migration_may_change_until_it_lands(repository: Path) -> None:
    (repository / _FOLDER / "0003_more.py").write_text("revision = '0003'\n")

    assert compare_migrations(repository).changed == []


@pytest.mark.parametrize("is_committed", [False, True])
def test_an_edit_of_a_landed_migration_is_reported(repository: Path, *, is_committed: bool) -> None:
    (repository / _FIRST).write_text("revision = 'another'\n")
    if is_committed:
        _commit(repository)

    [reported] = compare_migrations(repository).changed

    assert str(_FIRST) in reported
    assert "write a new one" in reported


def test_a_deleted_landed_migration_is_reported(repository: Path) -> None:
    (repository / _FIRST).unlink()
    _commit(repository)

    [reported] = compare_migrations(repository).changed

    assert str(_FIRST) in reported


def test_a_branch_may_edit_what_only_it_has(repository: Path) -> None:
    _git(repository, "checkout", "--quiet", "-b", "feature")
    for text in ("first", "second"):
        (repository / _FOLDER / "0003_more.py").write_text(f"revision = {text!r}\n")
        _commit(repository)

    assert compare_migrations(repository).changed == []


def test_a_shallow_clone_says_that_it_sees_little(repository: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    _git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{repository}", str(clone))
    (clone / _SECOND).write_text("revision = 'another'\n")

    found = compare_migrations(clone)

    assert "git fetch --unshallow" in found.limits
    assert len(found.changed) == 1


def _commit(folder: Path) -> None:
    _git(folder, "add", "--all")
    _git(folder, "-c", "user.name=Test", "-c", "user.email=test@example.com", "commit", "--quiet", "--message=x")


def _git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, timeout=30)
