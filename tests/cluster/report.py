"""Figures that a test run prints at its end, whether it passed or not."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Figures:
    lines: list[str] = field(default_factory=list)

    def say(self, line: str) -> None:
        self.lines.append(line)
