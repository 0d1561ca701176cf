"""How much of one core this process uses: near 1 every task of its event loop waits for the others."""

import time
from collections.abc import Callable
from typing import Final

_SPAN_S: Final = 0.5


class CpuShare:
    """Called, it gives the share (0..1) of the last half second or more that has been looked at; 0.0 before the first.

    Looks when it is asked, at most each half second, so that nothing has to run beside the work.
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
        if passed_s >= _SPAN_S:
            used_s = self._used_s()
            self._share = min(1.0, (used_s - self._used_before_s) / passed_s)
            self._since_s, self._used_before_s = now_s, used_s
        return self._share
