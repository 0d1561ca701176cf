"""One schedule from its seed to its verdict: load, faults, calm, and what the checker makes of it."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from chaos.aftermath import read_aftermath
from chaos.checker import Violation, check
from chaos.client import ChaosUser
from chaos.cluster import Cluster
from chaos.history import History
from chaos.nemesis import Fault, plan_faults, torment
from chaos.workload import Actor, Until

LOAD_S: Final = 4.0
_USERS: Final = 6
# From the end of the load: what was begun is followed, and runs end, or count as lost.
_CALM_S: Final = 40.0


@dataclass(frozen=True, slots=True)
class Result:
    seed: int
    faults: Sequence[Fault]
    history: History
    violations: Sequence[Violation]
    took_s: float

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
            f"runs: {_counts(self.statuses)}, {sum(run.attempt > 1 for run in self.history.runs)} taken over, "
            f"{self.took_s:.1f} s [{faults}]"
        )


async def run_schedule(cluster: Cluster, seed: int) -> Result:
    """Leaves the cluster whole. Faults, their times and each user's steps are the seed's."""
    # No secret is drawn here.
    rng = random.Random(seed)  # noqa: S311
    faults = plan_faults(rng, LOAD_S)
    history = History()
    cluster.marks.take()
    started_s = time.monotonic()
    async with AsyncExitStack() as opened:
        users = [
            await ChaosUser.register(opened, cluster.gateway_urls, f"user-{number}", history)
            for number in range(_USERS)
        ]
        load_ends_s = time.monotonic() + LOAD_S
        until = Until(load_ends_s, load_ends_s + _CALM_S)
        async with asyncio.TaskGroup() as group:
            group.create_task(torment(cluster, faults))
            for number, user in enumerate(users):
                # Each their own, so that one's luck does not change another's steps.
                own = random.Random(f"{seed}/{number}")  # noqa: S311
                group.create_task(Actor(user, users[number - 1], own, until).act())
        async with asyncio.TaskGroup() as group:
            for user in users:
                group.create_task(read_aftermath(user, until.give_up_s))
    history.marks = cluster.marks.take()
    return Result(seed, faults, history, check(history), time.monotonic() - started_s)


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counter.most_common()) or "nothing"
