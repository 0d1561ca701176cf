"""Drops a thousand followers at once, and restarts every replica in turn under a thousand open streams."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp

from chaos.client import ChaosUser
from chaos.cluster import Cluster, ServiceEnv, names_of, open_cluster
from chaos.figures.at_rest import at_rest, compare
from chaos.figures.crowd import Follower
from chaos.figures.report import Report, spread
from chaos.history import History, Order

_PER_RUN = 10
_BOUND_S = 10.0
# One word per second: a thousand streams are a thousand events per second, which two cores can still carry.
_PACE = "[[sim:itl=1000]]"
_ENV: ServiceEnv = {
    "agent": {
        "AGENT_LEASE_TTL_S": "6",
        "AGENT_EVAL_SAMPLE_RATIO": "0",
        "AGENT_REMEMBER_DELAY_S": "10",
        "AGENT_MODEL_READ_TIMEOUT_S": "10",
    },
    "gateway": {"GATEWAY_MAX_OPEN_STREAMS": "3000", "GATEWAY_MAX_CONNECTIONS": "4000"},
}


async def drop(report: Report, data_dir: Path, count: int, seed: int) -> None:
    """All `count` are on one gateway, which is killed; they reconnect to the other."""
    del seed

    async def harm(cluster: Cluster) -> float:
        await asyncio.sleep(3.0)
        killed_s = time.monotonic()
        await cluster.processes[names_of("gateway")[0]].kill()
        await asyncio.sleep(15.0)
        await cluster.processes[names_of("gateway")[0]].start()
        return killed_s

    async with open_cluster(data_dir, _ENV) as cluster:
        # The first drop fills pools and loads modules; resources that an equal second one leaves behind are a leak.
        await _drop_once(report, cluster, count, harm)
        before = await at_rest(cluster)
        await _drop_once(report, cluster, count, harm)
        after = await at_rest(cluster)
        # Only compare processes that were not restarted.
        del after[names_of("gateway")[0]]
        compare(report, before, after)


async def _drop_once(report: Report, cluster: Cluster, count: int, harm: Callable[[Cluster], Awaitable[float]]) -> None:
    killed_s, followers = await _under_streams(report, cluster, count, seconds=45, harm=harm, gateways=(0,))
    # Followers that had seen the end had no reason to reconnect; lost ones have no end and are reported above.
    dropped = [one for one in followers if one.ended_s > killed_s]
    back = [min((at_s for at_s in one.back_s if at_s > killed_s), default=1e9) - killed_s for one in dropped]
    report.say(f"{len(dropped)} of {len(followers)} followers dropped at once, reconnected after {spread(back)}")
    report.require(len(dropped) >= 0.9 * len(followers), "nearly all were following when the gateway was killed")
    report.require(max(back) <= _BOUND_S, f"all reconnect within {_BOUND_S:.0f} s")


async def rolling(report: Report, data_dir: Path, count: int, seed: int) -> None:
    """Stops each replica with SIGTERM and starts it again: gateways and agents, then the rest."""
    del seed

    async def harm(cluster: Cluster) -> float:
        started_s = time.monotonic()
        for name in (*names_of("gateway"), *names_of("agent"), "auth", "memory", "eval"):
            await cluster.processes[name].stop()
            await cluster.processes[name].start()
            report.say(f"{name} restarted, {time.monotonic() - started_s:.1f} s after the beginning")
        return started_s

    async with open_cluster(data_dir, _ENV) as cluster:
        _, followers = await _under_streams(report, cluster, count, seconds=40, harm=harm, gateways=(0, 1))
        report.say(f"{sum(one.streams for one in followers) - len(followers)} times a follower reconnected")


async def _under_streams(
    report: Report,
    cluster: Cluster,
    count: int,
    *,
    seconds: int,
    harm: Callable[[Cluster], Awaitable[float]],
    gateways: tuple[int, ...],
) -> tuple[float, list[Follower]]:
    """`count` followers of a tenth as many runs, which take `seconds`; returns `harm`'s result and the followers."""
    async with AsyncExitStack() as opened:
        runs = await _start_runs(opened, cluster, count // _PER_RUN, seconds)
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5.0, sock_read=30.0),
        )
        await opened.enter_async_context(session)
        followers = [
            Follower(user, run_id, gateways[number % len(gateways)])
            for number, (user, run_id) in enumerate(run for run in runs for _ in range(_PER_RUN))
        ]
        give_up_s = time.monotonic() + 180.0
        async with asyncio.TaskGroup() as group:
            for follower in followers:
                group.create_task(follower.follow(session, give_up_s))
            await _until_all_follow(followers)
            report.say(f"{len(followers)} streams of {len(runs)} runs are open")
            harmed_s = await harm(cluster)
    for fault in filter(None, (follower.fault() for follower in followers)):
        report.require(holds=False, what=fault)
    ends = Counter(follower.ended_as for follower in followers)
    report.say(f"{len(followers)} streams whole: {dict(ends)}")
    report.require(set(ends) == {"run_finished"}, "every run succeeded")
    return harmed_s, followers


async def _start_runs(
    opened: AsyncExitStack, cluster: Cluster, count: int, seconds: int
) -> list[tuple[ChaosUser, str]]:
    runs = []
    for number in range(count):
        user = await ChaosUser.register(opened, cluster.gateway_urls, f"user-{number}", History())
        runs.append((user, f"[[sim:tokens={seconds}]]{_PACE} Run {number}."))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_start(user, message)) for user, message in runs]
    return [(user, task.result()) for (user, _), task in zip(runs, tasks, strict=True)]


async def _start(user: ChaosUser, message: str) -> str:
    while True:
        order = Order(user=user.name, key="one", message=message, reply="")
        answer = await user.post_stream(order, 0, leave_after=1)
        if answer.call.outcome == "ok":
            return answer.call.run_id


async def _until_all_follow(followers: list[Follower]) -> None:
    async with asyncio.timeout(60):
        while not all(follower.positions for follower in followers):  # noqa: ASYNC110 - no event from other tasks
            await asyncio.sleep(0.1)
