"""Measures the speed of this Python build. Two builds of one version may differ by more than a change under test."""

import statistics
import time
from typing import Final

_STEPS: Final = 100_000
_REPEATS: Final = 5
_TEXTS: Final = 50


def loop_ms() -> float:
    """CPU milliseconds of a fixed loop with calls, attributes, dictionaries and text; median of five runs."""
    return statistics.median(_timed() for _ in range(_REPEATS))


def _timed() -> float:
    began_s = time.process_time()
    _loop()
    return (time.process_time() - began_s) * 1_000


def _loop() -> None:
    sums: dict[int, int] = {}
    texts: list[str] = []
    for step in range(_STEPS):
        key = step % 97
        sums[key] = sums.get(key, 0) + _Number(step).plus(key)
        texts.append(str(step)[::-1])
        if len(texts) > _TEXTS:
            texts = sorted(texts)[:10]


class _Number:
    def __init__(self, value: int) -> None:
        self.value = value

    def plus(self, other: int) -> int:
        return self.value + other
