"""The size of a measurement: full, or just large enough to test the code."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Size:
    """`streams` at once in the main measurement, `levels` beside it. A batch has `rounds` turns a stream, and at least
    `least_turns`."""

    streams: int
    levels: tuple[int, ...]
    rounds: int
    least_turns: int
    repeats: int
    thread_turns: int
    thread_part: int
    rates: tuple[float, ...]
    step_s: float
    memory_users: int
    memories_each: int
    recalls: int
    hashing_s: float
    logins: int
    storm_s: float
    storm_turns_per_s: float

    def turns_of(self, streams: int) -> int:
        return max(self.least_turns, self.rounds * streams)


FULL: Final = Size(
    streams=100,
    levels=(8, 30),
    rounds=6,
    least_turns=160,
    repeats=3,
    thread_turns=210,
    thread_part=10,
    rates=(5, 10, 15, 20, 25, 30, 35, 40, 50, 60, 80, 100, 120, 150, 180),
    step_s=10.0,
    memory_users=100,
    memories_each=1_000,
    recalls=200,
    hashing_s=5.0,
    logins=600,
    storm_s=30.0,
    storm_turns_per_s=5.0,
)
SMALL: Final = Size(
    streams=5,
    levels=(2,),
    rounds=2,
    least_turns=4,
    repeats=1,
    thread_turns=40,
    thread_part=5,
    rates=(2.0,),
    step_s=2.0,
    memory_users=5,
    memories_each=100,
    recalls=10,
    hashing_s=0.3,
    logins=20,
    storm_s=2.0,
    storm_turns_per_s=2.0,
)
