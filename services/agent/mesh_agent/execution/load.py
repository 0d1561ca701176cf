"""How much of one core this process uses. Near 1, the tasks of its event loop wait for each other."""

import time
from collections.abc import Callable
from typing import Final

_PERIOD_S: Final = 0.5


class CpuShare:
    """Returns the share (0..1) over the last measured period of at least half a second; 0.0 before the first.

    Measures only when called, at most every half second, so that it needs no background task.
    """

    def __init__(
        self, now_s: Callable[[], float] = time.monotonic, used_s: Callable[[], float] = time.process_time
    ) -> None:
        self._now_s = now_s
        self._used_s = used_s
        self._since_s = now_s()
        self._used_before_s = used_s()
        self._share = 0.0

    def __call__(self) -> float:
        now_s = self._now_s()
        passed_s = now_s - self._since_s
        if passed_s >= _PERIOD_S:
            used_s = self._used_s()
            self._share = min(1.0, (used_s - self._used_before_s) / passed_s)
            self._since_s, self._used_before_s = now_s, used_s
        return self._share
