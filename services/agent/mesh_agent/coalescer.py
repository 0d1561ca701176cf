"""Joins tokens into fewer events: the first goes out at once, then what gathered in a window.

Each gRPC message costs 32-55 µs a side, each SSE frame 10-41 µs (measured), so 100 tokens sent one by one would
eat the whole budget of a turn. A reader notices nothing below 100 ms once text flows.
"""

import asyncio
from collections.abc import Callable

from mesh_agent.attempt_log import LeaseLostError

_MIN_WINDOW_S = 0.025
_MAX_WINDOW_S = 0.1


def window_s(load: float) -> float:
    """The window for a replica that is so busy (0..1): 25 ms idle, 100 ms full."""
    return _MIN_WINDOW_S + (_MAX_WINDOW_S - _MIN_WINDOW_S) * min(max(load, 0.0), 1.0)


class TextCoalescer:
    """Feeds `send` with joined text. `flush` before anything else is sent, so that order holds.

    `send` may raise (a lost lease); from a timer that is kept and raised by the next `push` or `flush`.
    """

    def __init__(self, send: Callable[[str], None], load: Callable[[], float]) -> None:
        self._send = send
        self._load = load
        self._parts: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._is_first = True
        self._failure: LeaseLostError | None = None

    def push(self, text: str) -> None:
        self._raise_failure()
        if self._is_first:
            self._is_first = False
            self._send(text)
            return
        self._parts.append(text)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(window_s(self._load()), self._on_timer)

    def flush(self) -> None:
        self._raise_failure()
        self.discard_timer()
        if self._parts:
            text = "".join(self._parts)
            self._parts.clear()
            self._send(text)

    def discard_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        self._timer = None
        try:
            self.flush()
        except LeaseLostError as error:
            self._failure = error

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
