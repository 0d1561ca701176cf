"""Output for the person who started the stack."""

import time


def say(text: str = "", *, end: str = "\n") -> None:
    """Prints and flushes, because output to a pipe is buffered."""
    print(text, end=end, flush=True)


class Stopwatch:
    def __init__(self) -> None:
        self._started = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._started
