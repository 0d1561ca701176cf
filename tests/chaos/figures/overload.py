"""More load than the agents take, on a slow database, for `count` seconds: what is refused, and no lease is lost."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from bench.statistics import percentile
from mesh_agent.settings import AgentSettings

from chaos.aftermath import read_aftermath
from chaos.checker import check
from chaos.client import ChaosUser
from chaos.cluster import Cluster, ServiceEnv, open_cluster
from chaos.crowd import crowd
from chaos.figures.report import Report, spread
from chaos.history import Call, History
from chaos.orders import Pace, make_order

# Two replicas execute 16 runs and keep 16 more pending.
_RUNS: Final = 8
_USERS: Final = 8
_STARTERS_PER_USER: Final = 8
_ENV: Final[ServiceEnv] = {
    "agent": {
        "AGENT_MAX_RUNS": str(_RUNS),
        "AGENT_MAX_PENDING_RUNS": str(2 * _RUNS),
        "AGENT_LEASE_TTL_S": str(AgentSettings.model_fields["lease_ttl_s"].default),
    }
}
_PACE: Final = Pace(words=range(10, 30), ttft_ms=(200,), itl_ms=(30,))
# A statement then takes 40 ms.
_DELAY_S: Final = 0.02
# Shorter than the Retry-After of a refusal.
_AGAIN_S: Final = 0.3
# The gateway gives a start 5 s. A refusal says when to come back; a deadline leaves open whether the run exists.
_REFUSED_WITHIN_S: Final = 4.0
_CALM_S: Final = 90.0


async def measure(report: Report, data_dir: Path, count: int, seed: int) -> None:
    history = History()
    async with open_cluster(data_dir, _ENV) as cluster, AsyncExitStack() as opened:
        users = [
            await ChaosUser.register(opened, cluster.gateway_urls, f"user-{number}", history, silence_s=30.0)
            for number in range(_USERS)
        ]
        cluster.marks.take()
        await _overload(cluster, users, count, seed)
        give_up_s = time.monotonic() + _CALM_S
        async with asyncio.TaskGroup() as group:
            for user in users:
                group.create_task(read_aftermath(user, give_up_s))
        history.marks = cluster.marks.take()
    _report(report, history, count)


async def _overload(cluster: Cluster, users: list[ChaosUser], count: int, seed: int) -> None:
    slow = [link for name, link in cluster.links.items() if name.endswith(">postgres")]
    until_s = time.monotonic() + count
    for link in slow:
        link.delay_s = _DELAY_S
    async with crowd(users[0].clients), asyncio.TaskGroup() as group:
        for number in range(_USERS * _STARTERS_PER_USER):
            own = random.Random(f"{seed}/{number}")  # noqa: S311 - no secret
            group.create_task(_start_again_and_again(users[number % _USERS], own, until_s))
    for link in slow:
        link.clean()


async def _start_again_and_again(user: ChaosUser, rng: random.Random, until_s: float) -> None:
    while time.monotonic() < until_s:
        order = make_order(rng, user.name, None, _PACE)
        user.history.orders.append(order)
        answer = await user.post_stream(order, rng.randrange(len(user.clients)))
        if answer.call.outcome != "ok":
            await asyncio.sleep(_AGAIN_S)


def _report(report: Report, history: History, count: int) -> None:
    for violation in check(history):
        report.require(holds=False, what=str(violation))
    starts = [call for call in history.calls if call.kind == "start"]
    refused = [call.ended_s - call.started_s for call in starts if call.status == 503]
    lost = sum(run.attempt - 1 for run in history.runs)
    statuses = Counter(run.reason or run.status for run in history.runs)
    report.say(f"{count} s: {len(starts)} starts, answered {dict(_answers(starts))}, runs {dict(statuses)}")
    report.say(f"refused after {spread(refused)}; {lost} leases lost")
    report.require(refused, "the load exceeds the capacity")
    report.require(percentile(refused, 99) <= _REFUSED_WITHIN_S, f"p99 of refusals within {_REFUSED_WITHIN_S} s")
    report.require(lost == 0, "no lease is lost")
    report.require(statuses["succeeded"] > count, "more than one run a second succeeds")


def _answers(starts: list[Call]) -> Mapping[str, int]:
    return Counter(call.reason or str(call.status) for call in starts)
