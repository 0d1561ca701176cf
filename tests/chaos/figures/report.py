"""The output of a measurement: lines of figures, and whether its limits held."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.statistics import percentile


@dataclass(slots=True)
class Report:
    name: str
    failures: list[str] = field(default_factory=list)

    def say(self, line: str) -> None:
        sys.stdout.write(f"{self.name}: {line}\n")
        sys.stdout.flush()

    def require(self, holds: object, what: str) -> None:
        """A condition that must hold; `what` describes it and is printed if it does not."""
        if not holds:
            self.failures.append(what)
            self.say(f"VIOLATED: {what}")

    def verdict(self) -> int:
        """Prints the last line and returns the exit code."""
        self.say(f"FAILED, {len(self.failures)} bounds" if self.failures else "PASSED")
        return 1 if self.failures else 0


def spread(values: Sequence[float], unit: str = "s", digits: int = 2) -> str:
    shown = ", ".join(f"{name} {percentile(values, at):.{digits}f}" for name, at in (("p50", 50), ("p99", 99)))
    return f"{shown}, max {max(values, default=0.0):.{digits}f} {unit} (n={len(values)})"
