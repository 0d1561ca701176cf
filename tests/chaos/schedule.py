"""One schedule from its seed to its verdict: load, faults, calm, and what the checker makes of it."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from mesh_common.clock import utc_now

from chaos.aftermath import NotReadableError, read_aftermath
from chaos.checker import Violation, check
from chaos.client import ChaosUser
from chaos.cluster import LEASE_TTL_S, Cluster
from chaos.history import Clock, History
from chaos.nemesis import Fault, plan_faults, torment
from chaos.workload import Actor, Until

LOAD_S: Final = 4.0
_USERS: Final = 6
# From the end of the load: what was begun is followed, and runs end, or count as lost.
_CALM_S: Final = 40.0
# Beyond all that: accounts are made before, and what is stored is read after. A schedule mostly takes a tenth of it.
_GIVE_UP_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Result:
    seed: int
    faults: Sequence[Fault]
    history: History
    violations: Sequence[Violation]
    took_s: float
    is_finished: bool = True
    """Otherwise it was cut off, and the cluster may not be whole."""

    @property
    def takeovers(self) -> int:
        """Runs that more than one attempt was made at."""
        return sum(run.attempt > 1 for run in self.history.runs)

    @property
    def outcomes(self) -> Counter[str]:
        """Of the users' operations; what was read afterwards is no operation."""
        return Counter(call.outcome for call in self.history.calls if call.kind != "read")

    @property
    def statuses(self) -> Counter[str]:
        return Counter(run.reason or run.status for run in self.history.runs)

    def __str__(self) -> str:
        faults = "; ".join(str(fault) for fault in self.faults)
        return (
            f"seed {self.seed}: {len(self.violations)} violations, {_counts(self.outcomes)}, "
            f"runs: {_counts(self.statuses)}, {self.takeovers} taken over, "
            f"{self.took_s:.1f} s [{faults}]"
        )


async def run_schedule(cluster: Cluster, seed: int, give_up_s: float = _GIVE_UP_S) -> Result:
    """Leaves the cluster whole, unless it takes longer than `give_up_s`.

    Faults, their times and each user's steps are the seed's.
    """
    # No secret is drawn here.
    faults = plan_faults(random.Random(seed), LOAD_S)  # noqa: S311
    started_s = time.monotonic()
    history = History(clock=Clock(utc_now().timestamp(), started_s), lease_ttl_s=LEASE_TTL_S)
    cluster.marks.take()
    trouble: Violation | None = None
    is_finished = True
    try:
        async with asyncio.timeout(give_up_s) as limit:
            trouble = await _live_through(cluster, seed, faults, history)
    except TimeoutError:
        if not limit.expired():
            raise
        is_finished = False
        trouble = Violation("schedule", f"seed {seed}", f"did not finish in {give_up_s:.0f} s")
    history.marks = cluster.marks.take()
    # Of a history that is not whole nothing else can be said.
    violations = [trouble] if trouble else check(history)
    return Result(seed, faults, history, violations, time.monotonic() - started_s, is_finished)


async def _live_through(cluster: Cluster, seed: int, faults: Sequence[Fault], history: History) -> Violation | None:
    """Load under faults, then what is left; a violation when that cannot be read."""
    async with AsyncExitStack() as opened:
        users = [
            await ChaosUser.register(opened, cluster.gateway_urls, f"user-{number}", history)
            for number in range(_USERS)
        ]
        load_ends_s = time.monotonic() + LOAD_S
        until = Until(load_ends_s, load_ends_s + _CALM_S)
        async with asyncio.TaskGroup() as group:
            group.create_task(torment(cluster, faults, history.troubles))
            for number, user in enumerate(users):
                # Each their own, so that one's luck does not change another's steps.
                own = random.Random(f"{seed}/{number}")  # noqa: S311
                group.create_task(Actor(user, users[number - 1], own, until).act())
        try:
            async with asyncio.TaskGroup() as group:
                for user in users:
                    group.create_task(read_aftermath(user, until.give_up_s))
        except* NotReadableError as errors:
            unreadable = Violation("schedule", f"seed {seed}", f"not readable afterwards: {errors.exceptions[0]}")
        else:
            return None
    return unreadable


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counter.most_common()) or "nothing"
