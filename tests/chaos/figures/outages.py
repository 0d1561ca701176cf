"""Kills or restarts each part under load, one after the other: how many turns ended, and how."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

from chaos.aftermath import read_aftermath
from chaos.checker import check
from chaos.client import ChaosUser
from chaos.cluster import Cluster, open_cluster
from chaos.figures.report import Report
from chaos.history import History
from chaos.orders import make_order
from chaos.workload import Actor, Until

_USERS = 8
_DOWN_S = 4.0
_CALM_S = 60.0


async def measure(report: Report, data_dir: Path, count: int, seed: int) -> None:
    """`count`: for how many seconds Redis is down, and for how many PostgreSQL is restarted every 20 s."""
    async with open_cluster(data_dir, {"agent": {"AGENT_LEASE_TTL_S": "6"}}) as cluster:
        for name in ("gateway", "agent", "auth", "memory", "eval"):
            await _phase(report, cluster, seed, f"kill -9 {name}, back after {_DOWN_S:.0f} s", _killed(name, _DOWN_S))
        await _phase(report, cluster, seed, f"Redis killed for {count} s", _killed("valkey", float(count)))
        restarts = max(1, count // 20)
        what = f"PostgreSQL restarted {restarts} times, every 20 s"
        await _phase(report, cluster, seed, what, _restarted("postgres", restarts))


def _killed(name: str, down_s: float) -> Callable[[Cluster], Awaitable[None]]:
    async def harm(cluster: Cluster) -> None:
        await asyncio.sleep(1.0)
        await cluster.processes[name].kill()
        await asyncio.sleep(down_s)
        await cluster.processes[name].start()
        await asyncio.sleep(1.0)

    return harm


def _restarted(name: str, times: int) -> Callable[[Cluster], Awaitable[None]]:
    async def harm(cluster: Cluster) -> None:
        for _ in range(times):
            started_s = time.monotonic()
            await cluster.processes[name].stop()
            await cluster.processes[name].start()
            await asyncio.sleep(max(0.0, 20.0 - (time.monotonic() - started_s)))

    return harm


async def _phase(
    report: Report, cluster: Cluster, seed: int, what: str, harm: Callable[[Cluster], Awaitable[None]]
) -> None:
    history = History()
    cluster.marks.take()
    async with AsyncExitStack() as opened:
        users = [
            await ChaosUser.register(opened, cluster.gateway_urls, f"user-{number}", history)
            for number in range(_USERS)
        ]
        has_ended = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for number, user in enumerate(users):
                own = random.Random(f"{seed}/{number}")  # noqa: S311 - no secret
                group.create_task(_chat_until(has_ended, user, own))
            await harm(cluster)
            has_ended.set()
        give_up_s = time.monotonic() + _CALM_S
        async with asyncio.TaskGroup() as group:
            for user in users:
                group.create_task(read_aftermath(user, give_up_s))
    history.marks = cluster.marks.take()
    _report(report, what, history)


async def _chat_until(has_ended: asyncio.Event, user: ChaosUser, rng: random.Random) -> None:
    while not has_ended.is_set():
        give_up_s = time.monotonic() + _CALM_S
        order = make_order(rng, user.name, rng.choice([None, *user.thread_ids]))
        user.history.orders.append(order)
        await Actor(user, user, rng, Until(give_up_s, give_up_s)).run_to_end(order, rng.randrange(2))


def _report(report: Report, what: str, history: History) -> None:
    for violation in check(history):
        report.require(holds=False, what=f"{what}: {violation}")
    first_tries: dict[str, bool] = {}
    for call in history.calls:
        if call.kind == "start":
            first_tries.setdefault(call.key, call.outcome == "ok")
    at_once = sum(first_tries.values())
    statuses = Counter(run.reason or run.status for run in history.runs)
    succeeded = statuses["succeeded"]
    runs = max(1, statuses.total())
    report.say(
        f"{what}: {len(first_tries)} turns, acknowledged at first {at_once / max(1, len(first_tries)):.1%}, "
        f"succeeded {succeeded / runs:.1%}, {dict(statuses)}, "
        f"{sum(run.attempt > 1 for run in history.runs)} taken over"
    )
