"""Fenced blocks of the documentation, so that tests run exactly the text that readers copy.

A block that a test runs has a name, in a comment on a separate line before the fence: `<!-- run: rotate-… -->`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
_FENCE: Final = re.compile(r"^(?P<indent> *)```(?P<language>\w*)$")
_NAME: Final = re.compile(r"^<!-- run: (?P<name>[a-z0-9-]+) -->$")


@dataclass(frozen=True, slots=True)
class Block:
    """`line` is the line of the opening fence; `name` is empty if no test runs the block."""

    path: Path
    line: int
    language: str
    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def blocks_of(path: Path) -> Iterator[Block]:
    """Raises ValueError for a fence that is not closed, or a name that is not followed by a block."""
    lines = enumerate(path.read_text().splitlines(), start=1)
    name = ""
    for number, line in lines:
        if marker := _NAME.match(line.strip()):
            name = marker["name"]
        elif fence := _FENCE.match(line):
            body = list(_until_closed(lines, fence["indent"], f"{path}:{number}"))
            yield Block(path, number, fence["language"], name, "".join(f"{each}\n" for each in body))
            name = ""
        elif name and line.strip():
            raise ValueError(f"{path}:{number}: no block follows the name {name}")


def block(page: Path, name: str) -> str:
    """The text of the only block with that name on a page. Raises LookupError."""
    found = [each for each in blocks_of(page) if each.name == name]
    if len(found) != 1:
        raise LookupError(f"{len(found)} blocks of {page} are called {name}")
    return found[0].text


def _until_closed(lines: Iterator[tuple[int, str]], indent: str, where: str) -> Iterator[str]:
    for _, line in lines:
        if line == f"{indent}```":
            return
        yield line.removeprefix(indent)
    raise ValueError(f"{where}: the block is not closed")
