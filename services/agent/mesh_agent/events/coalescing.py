"""For how long text gathers before it is told: the first token goes out at once, then what came in a window.

Each read of the provider's stream costs a wake-up, each gRPC message 32-55 µs a side, each SSE frame 10-41 µs
(measured), so 100 tokens one by one would eat the whole budget of a turn. A reader notices nothing below 100 ms once
text flows.
"""

from dataclasses import dataclass

_MIN_WINDOW_S = 0.025
_MAX_WINDOW_S = 0.1
# From half its runs or half its core on, each wake-up spared is time for another run: at 50 tokens/s the wide window
# takes 20 messages a turn less than the narrow one, some 0.27 ms of CPU each in agent and gateway.
_BUSY = 0.5
# Windows of a busy process end together, at times that all its runs share: a dozen runs that are read, told and sent
# one after the other cost 0.92 of what a dozen do that come at any time (measured over the whole mesh, a turn).
_TICK_S = 0.025


@dataclass(frozen=True, slots=True)
class TextWindow:
    """`is_busy`: CPU is what runs wait for, so that a little latency may be given for it."""

    length_s: float
    is_busy: bool

    def wait_s(self, now_s: float) -> float:
        """From `now_s`, of any clock that all runs share, until it ends: for a busy process at the last tick of 25 ms
        within its length."""
        if not self.is_busy:
            return self.length_s
        return max(0.0, (now_s + self.length_s) // _TICK_S * _TICK_S - now_s)


def text_window(load: float) -> TextWindow:
    """For a replica that is so busy (0..1): 25 ms idle, 100 ms from half of it on."""
    length_s = _MIN_WINDOW_S + (_MAX_WINDOW_S - _MIN_WINDOW_S) * min(max(load / _BUSY, 0.0), 1.0)
    return TextWindow(length_s, is_busy=load >= _BUSY)
