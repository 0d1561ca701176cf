"""The due times of tokens, and a clock that serves many tokens with one wake-up."""

import asyncio
import heapq
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal, Protocol

PaceKind = Literal["constant", "lognormal"]

# Half a millisecond: libuv's timers count whole milliseconds and may fire that much early.
_TIMER_SLACK_S = 0.0005
_JITTER_SAMPLES = 4096


class Clock(Protocol):
    def now_s(self) -> float: ...

    def at(self, when_s: float, callback: Callable[[], None]) -> None:
        """Calls back at the given time of `now_s`, at most a millisecond early. Cannot be cancelled."""


@dataclass(frozen=True, slots=True)
class Pace:
    """The timing of one answer: seconds to the first token, seconds between tokens, and optional gap factors."""

    ttft_s: float
    itl_s: float
    jitter: tuple[float, ...] = ()

    def gap_s(self, index: int) -> float:
        return self.itl_s * self.jitter[index % _JITTER_SAMPLES] if self.jitter else self.itl_s

    def total_s(self, tokens: int) -> float:
        return self.ttft_s + self.itl_s * max(tokens - 1, 0)


@cache
def lognormal_jitter(seed: int, sigma: float) -> tuple[float, ...]:
    """Gap factors with mean 1. Precomputed, because a random draw per token costs more than the token."""
    rng = random.Random(seed)  # noqa: S311 - reproducible jitter, not a secret
    return tuple(rng.lognormvariate(-sigma * sigma / 2, sigma) for _ in range(_JITTER_SAMPLES))


class TickWheel:
    """Groups callbacks into ticks: one timer of the loop serves all streams that are due in a tick."""

    def __init__(self, loop: asyncio.AbstractEventLoop, tick_s: float) -> None:
        self._loop = loop
        self._tick_s = tick_s
        self._slots: dict[int, list[Callable[[], None]]] = {}
        self._order: list[int] = []
        self._timer: asyncio.TimerHandle | None = None
        self._armed_slot = 0

    def now_s(self) -> float:
        return self._loop.time()

    def at(self, when_s: float, callback: Callable[[], None]) -> None:
        slot = math.ceil(when_s / self._tick_s)
        due = self._slots.get(slot)
        if due is not None:
            due.append(callback)
            return
        self._slots[slot] = [callback]
        heapq.heappush(self._order, slot)
        if self._timer is None or slot < self._armed_slot:
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_slot = self._order[0]
        self._timer = self._loop.call_at(self._armed_slot * self._tick_s, self._turn)

    def _turn(self) -> None:
        # The timer stays set while callbacks run, so that what they schedule is armed once, at the end.
        self._armed_slot = -1
        due_until_s = self._loop.time() + _TIMER_SLACK_S
        try:
            while self._order and self._order[0] * self._tick_s <= due_until_s:
                for callback in self._slots.pop(heapq.heappop(self._order)):
                    callback()
        finally:
            self._timer = None
            if self._order:
                self._arm()


class LoopTimers:
    """One timer of the loop per callback: the simple way, kept for comparison (`simulator.bench`)."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def now_s(self) -> float:
        return self._loop.time()

    def at(self, when_s: float, callback: Callable[[], None]) -> None:
        self._loop.call_at(when_s, callback)
