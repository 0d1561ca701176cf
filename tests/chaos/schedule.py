"""One schedule from its seed to its verdict: load, faults, a calm period, and the checker's result."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import Final

from mesh_common.clock import utc_now

from chaos.aftermath import NotReadableError, read_aftermath
from chaos.checker import Violation, check
from chaos.client import ChaosUser
from chaos.cluster import LEASE_TTL_S, Cluster, Process
from chaos.crowd import crowd
from chaos.history import Clock, History
from chaos.nemesis import Fault, plan_faults, torment
from chaos.proxy import FaultProxy
from chaos.workload import Actor, Until

LOAD_S: Final = 4.0
_USERS: Final = 6
# After the end of the load: streams are followed, and runs must end or they count as lost.
_CALM_S: Final = 40.0
# Includes creating accounts before the load and reading the state afterwards. Most schedules take a tenth of it.
_GIVE_UP_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Result:
    seed: int
    faults: Sequence[Fault]
    history: History
    violations: Sequence[Violation]
    took_s: float
    is_finished: bool = True
    """If False, it was aborted, and the cluster may be damaged."""

    @property
    def takeovers(self) -> int:
        """Runs with more than one attempt."""
        return sum(run.attempt > 1 for run in self.history.runs)

    @property
    def outcomes(self) -> Counter[str]:
        """Outcomes of the users' operations; reads after the load do not count."""
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
    """Restores the cluster, unless the schedule takes longer than `give_up_s`.

    The seed determines the faults, their times and each user's steps.
    """
    # Not used for secrets.
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
    # An incomplete history allows no other conclusion.
    violations = [trouble] if trouble else check(history)
    return Result(seed, faults, history, violations, time.monotonic() - started_s, is_finished)


async def _live_through(cluster: Cluster, seed: int, faults: Sequence[Fault], history: History) -> Violation | None:
    """Runs the load under faults, then reads the state; a violation if that cannot be read."""
    async with AsyncExitStack() as opened:
        users = [
            await ChaosUser.register(opened, cluster.gateway_urls, f"user-{number}", history)
            for number in range(_USERS)
        ]
        load_ends_s = time.monotonic() + LOAD_S
        until = Until(load_ends_s, load_ends_s + _CALM_S)
        async with asyncio.TaskGroup() as group:
            group.create_task(torment(_Victims(cluster, users[0]), faults, history.troubles))
            for number, user in enumerate(users):
                # One generator per user, so that one user's outcomes do not change another's steps.
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


@dataclass(frozen=True, slots=True)
class _Victims:
    """The cluster, and a user in whose name a crowd reads."""

    cluster: Cluster
    reader: ChaosUser

    @property
    def processes(self) -> Mapping[str, Process]:
        return self.cluster.processes

    @property
    def links(self) -> Mapping[str, FaultProxy]:
        return self.cluster.links

    def crowd(self) -> AbstractAsyncContextManager[None]:
        return crowd(self.reader.clients)

    def odd_model(self) -> AbstractAsyncContextManager[None]:
        return self.cluster.odd_model()


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counter.most_common()) or "nothing"
