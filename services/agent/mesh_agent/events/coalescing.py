"""How long text is collected before it is sent. The first token is sent at once, then the text of each window.

Each read of the provider's stream costs a wake-up, each gRPC message 32-55 µs on either side, and each SSE frame
10-41 µs (measured). Sending 100 tokens one by one would therefore use up the whole budget of a turn. Once text flows,
a reader does not notice a delay below 100 ms.
"""

from dataclasses import dataclass

_MIN_WINDOW_S = 0.025
_MAX_WINDOW_S = 0.1
# Above half its runs or half its core, each saved wake-up is time for another run: at 50 tokens/s the wide window needs
# 20 messages fewer per turn than the narrow one, and each takes about 0.27 ms of CPU in agent and gateway.
_BUSY = 0.5
# In a busy process all windows end together, at ticks that its runs share. A dozen runs that are read and sent one
# after the other cost 0.92 of what a dozen at random times cost (measured over the whole mesh, per turn).
_TICK_S = 0.025


@dataclass(frozen=True, slots=True)
class TextWindow:
    """`is_busy`: runs wait for CPU, so a little latency may be traded for it."""

    length_s: float
    is_busy: bool

    def wait_s(self, now_s: float) -> float:
        """Seconds from `now_s` until the window ends. In a busy process it ends at the last 25 ms tick within its
        length. `now_s` is of any clock that all runs share."""
        if not self.is_busy:
            return self.length_s
        return max(0.0, (now_s + self.length_s) // _TICK_S * _TICK_S - now_s)


def text_window(load: float) -> TextWindow:
    """The window for a load of 0 to 1: 25 ms if idle, rising to 100 ms at a load of 0.5 and above."""
    length_s = _MIN_WINDOW_S + (_MAX_WINDOW_S - _MIN_WINDOW_S) * min(max(load / _BUSY, 0.0), 1.0)
    return TextWindow(length_s, is_busy=load >= _BUSY)
