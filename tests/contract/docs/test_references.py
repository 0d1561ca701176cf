"""What the sources refer to is in the repository."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
_RECORDS = sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))
# A document that was never part of the repository. Spelled so that this file does not name it.
_ABSENT = re.compile(rb"\b" + b"DES" + b"IGN" + rb"\b")


def _tracked() -> list[Path]:
    command = ["git", "ls-files", "-z", "--cached"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def test_no_source_names_a_document_that_is_not_here() -> None:
    files = _tracked()

    assert Path(__file__) in files
    assert [str(path.relative_to(ROOT)) for path in files if _ABSENT.search(path.read_bytes())] == []


def test_every_named_decision_has_a_record() -> None:
    numbers = {record.name[:4] for record in _RECORDS}
    named = {
        (number.decode(), str(path.relative_to(ROOT)))
        for path in _tracked()
        for number in re.findall(rb"docs/adr/(\d{4})", path.read_bytes())
    }

    assert named
    assert {(number, path) for number, path in named if number not in numbers} == set()


@pytest.mark.parametrize("record", _RECORDS, ids=lambda record: record.stem)
def test_the_index_of_decisions_has_the_title_of_every_record(record: Path) -> None:
    title = record.read_text().partition("\n")[0].removeprefix("# ")

    assert f"- [{title}]({record.name})" in (ROOT / "docs" / "adr" / "README.md").read_text().splitlines()
