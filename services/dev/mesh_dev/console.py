"""What the stack says to the person who started it."""

import time


def say(text: str = "", *, end: str = "\n") -> None:
    """At once: a pipe would hold it back."""
    print(text, end=end, flush=True)


class Stopwatch:
    def __init__(self) -> None:
        self._started = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._started
