"""The same request at both gateways concurrently, 2,000 times: one run each, and one call of the model."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

from simulator.client import SimulatorAdmin

from chaos.client import ChaosUser
from chaos.cluster import ServiceEnv, open_cluster
from chaos.figures.report import Report
from chaos.history import History, Order

_AT_ONCE = 10
# A user may have 50 pending runs; each thread is used a hundred times.
_USERS = 20


async def measure(report: Report, data_dir: Path, count: int, seed: int) -> None:
    del seed
    quiet: ServiceEnv = {"agent": {"AGENT_EVAL_SAMPLE_RATIO": "0", "AGENT_REMEMBER_DELAY_S": "60"}}
    async with open_cluster(data_dir, quiet) as cluster, AsyncExitStack() as opened:
        admin = await opened.enter_async_context(SimulatorAdmin(cluster.stack.model_url))
        users = [
            await ChaosUser.register(opened, cluster.gateway_urls, f"user-{number}", History())
            for number in range(_USERS)
        ]
        await admin.reset()
        pairs: list[tuple[str, str]] = []
        waiting = iter(range(count))
        async with asyncio.TaskGroup() as group:
            for worker in range(_AT_ONCE):
                group.create_task(_pairs(users[worker], waiting, pairs))
        same = sum(one == other != "" for one, other in pairs)
        runs = {run_id for pair in pairs for run_id in pair}
        await _until_idle(admin, count)
        asked = (await admin.stats())["requests"].get("chat_stream", 0)
    report.say(f"{len(pairs)} pairs, {same} named the same run, {len(runs)} runs, {asked} calls of the model")
    report.require(same == count, "both answers of each pair name the same run")
    report.require(len(runs) == count, "as many runs as pairs")
    report.require(asked == count, "each run was executed once")


async def _pairs(user: ChaosUser, waiting: Iterator[int], pairs: list[tuple[str, str]]) -> None:
    for number in waiting:
        order = Order(user=user.name, key=f"pair-{number}", message=f"Pair {number}. [[sim:reply=ok]]", reply="ok")
        one, other = await asyncio.gather(*(user.post_stream(order, gateway) for gateway in (0, 1)))
        pairs.append((one.call.run_id, other.call.run_id))


async def _until_idle(admin: SimulatorAdmin, count: int) -> None:
    async with asyncio.timeout(60):
        while (await admin.stats())["requests"].get("chat_stream", 0) < count:  # noqa: ASYNC110 - no event across processes
            await asyncio.sleep(0.2)
