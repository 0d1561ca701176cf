"""Load on a release during an operation, and the verdict of the chaos suite's checker on everything observed."""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from chaos.aftermath import read_aftermath
from chaos.checker import Violation, check
from chaos.client import ChaosUser
from chaos.history import Call, Clock, History, Trouble
from chaos.orders import Pace, make_order
from chaos.workload import Actor, Until
from mesh_common.clock import utc_now

from cluster.marks import MarkClient

# A client behind one ingress cannot switch to another gateway, so it waits as long as a busy machine needs.
_SILENCE_S: Final = 15.0
# The time to follow all started runs to their end and to read what is stored.
_CALM_S: Final = 120.0
_LONGEST_S: Final = 1_200.0
SLOW: Final = Pace(words=range(30, 60), ttft_ms=(0, 200), itl_ms=(200, 400))


@dataclass(slots=True)
class Storm:
    """Follows `streams` runs at any time; `seed` determines the messages of users."""

    history: History
    streams: int
    seed: int
    violations: Sequence[Violation] = ()

    @property
    def failed(self) -> list[Call]:
        """Requests that failed at the first try. Streams that were cut do not count."""
        return [call for call in self.history.calls if call.outcome != "ok"]

    @property
    def cut_streams(self) -> int:
        return sum(stream.is_cut for stream in self.history.streams)

    @property
    def takeovers(self) -> int:
        return sum(run.attempt > 1 for run in self.history.runs)

    @property
    def pauses_s(self) -> list[float]:
        """For each run, the longest time without an event at its follower."""
        heard: dict[tuple[str, str], list[float]] = defaultdict(list)
        for stream in self.history.streams:
            if not stream.is_replay:
                heard[stream.user, stream.run_id] += [event.at_s for event in stream.events]
        longest = []
        for times in heard.values():
            ordered = sorted(times)
            longest.append(max((after - before for before, after in pairwise(ordered)), default=0.0))
        return longest

    def __str__(self) -> str:
        runs, pauses = self.history.runs, self.pauses_s
        return (
            f"seed {self.seed}: {len(runs)} runs, {sum(run.status == 'succeeded' for run in runs)} succeeded, "
            f"{self.takeovers} taken over, {len(self.violations)} violations, {len(self.failed)} requests failed, "
            f"{self.cut_streams} streams cut, longest pause {max(pauses, default=0.0):.1f} s"
        )


@asynccontextmanager
async def storm(
    url: str, marks: MarkClient, *, users: int, streams: int, lease_ttl_s: float, pace: Pace = SLOW
) -> AsyncIterator[Storm]:
    """Load during the block, which starts when all streams are open. `violations` is set after the block."""
    seed = random.SystemRandom().randrange(1_000_000)
    history = History(clock=Clock(utc_now().timestamp(), time.monotonic()), lease_ttl_s=lease_ttl_s)
    one = Storm(history, streams, seed)
    await marks.take()
    async with AsyncExitStack() as opened:
        people = [
            await ChaosUser.register(opened, (url, url), f"user-{number}", history, _SILENCE_S)
            for number in range(users)
        ]
        stop = asyncio.Event()
        until = Until(time.monotonic() + _LONGEST_S, time.monotonic() + _LONGEST_S)
        async with asyncio.TaskGroup() as group:
            for number in range(streams):
                own = random.Random(f"{seed}/{number}")  # noqa: S311
                group.create_task(_keep_streaming(people[number % users], own, until, stop, pace))
            await _all_open(history, streams)
            try:
                yield one
            finally:
                stop.set()
        await _read_all(people)
    history.marks = await marks.take()
    one.violations = check(history)


def note(one: Storm, kind: str, target: str, begun_s: float) -> None:
    """Records an operation on the release that ends now, for rules that tolerate its effects."""
    one.history.troubles.append(Trouble(kind=kind, target=target, begun_s=begun_s, ended_s=time.monotonic()))


async def _keep_streaming(user: ChaosUser, rng: random.Random, until: Until, stop: asyncio.Event, pace: Pace) -> None:
    actor = Actor(user, user, rng, until)
    while not stop.is_set():
        order = make_order(rng, user.name, None, pace)
        user.history.orders.append(order)
        await actor.run_to_end(order, 0)


async def _all_open(history: History, streams: int) -> None:
    async with asyncio.timeout(_CALM_S):
        while sum(bool(stream.events) for stream in history.streams) < streams:  # noqa: ASYNC110 - the history's
            await asyncio.sleep(0.05)


async def _read_all(people: Sequence[ChaosUser]) -> None:
    give_up_s = time.monotonic() + _CALM_S
    for user in people:
        await read_aftermath(user, give_up_s)
