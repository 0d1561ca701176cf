"""When text that has arrived is sent: the first token at once, then all text since the last tick.

Each read of the provider's stream costs a wake-up, each gRPC message 32-55 µs on either side, and each SSE frame
10-41 µs (measured). Sending 100 tokens one by one would therefore use up the whole budget of a turn. Once text flows,
a reader does not notice a delay below 100 ms. All runs of a process share the ticks, so that one wake-up, one message
and one write serve them all (docs/adr/0025).
"""

from typing import Final

TICK_S: Final = 0.06
# uvloop's timers have a resolution of a millisecond and may fire just before their tick.
EARLY_S: Final = 0.002


def until_tick_s(now_s: float) -> float:
    """Seconds from `now_s` to the next tick that is not just due. `now_s` is of any clock that all runs share."""
    return ((now_s + EARLY_S) // TICK_S + 1) * TICK_S - now_s
