"""kill -9 of an agent at random points of turns with tools: how long until another takes over, and what acted twice.

With production's leases. All runs of a round are in progress when one of the two agents is killed; the runs that it
owned are the kill points.
"""

import asyncio
import random
import time
from contextlib import AsyncExitStack
from pathlib import Path

from chaos.aftermath import read_aftermath
from chaos.checker import check
from chaos.cluster import Cluster, names_of, open_cluster
from chaos.figures.report import Report, spread
from chaos.figures.timed_user import TimedUser
from chaos.history import History
from chaos.orders import make_order
from chaos.workload import Actor, Until

_USERS = 12
# A turn of these orders takes 0.2 to 4 s, so the kill may come at any point of it.
_KILL_AFTER_S = (0.1, 2.5)
_CALM_S = 60.0
_BOUND_S = 10.0


async def measure(report: Report, data_dir: Path, count: int, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - no secret
    takeovers: list[float] = []
    unknown = calls = rounds = 0
    async with open_cluster(data_dir, {"agent": {"AGENT_LEASE_TTL_S": "6"}}) as cluster:
        while len(takeovers) < count and rounds < count:
            rounds += 1
            history, taken = await _round(cluster, rng, names_of("agent")[rounds % 2])
            takeovers += taken
            violations = check(history)
            for violation in violations:
                report.require(holds=False, what=str(violation))
            finished = [event for stream in history.streams for event in stream.events if event.type == "tool_finished"]
            unknown += len(
                {(event.run_id, event.fields["call_id"]) for event in finished if event.fields["is_unknown"]}
            )
            calls += sum(len(order.once_tokens) + len(order.idempotent_tokens) for order in history.orders)
            report.say(f"round {rounds}: {len(taken)} taken over, {len(takeovers)} of {count}, {spread(taken)}")
    report.say(f"takeover after kill -9: {spread(takeovers)}")
    report.say(f"{calls} tool calls ordered, {unknown} reported unknown, 0 acted twice unless said above; seed {seed}")
    report.require(max(takeovers, default=99.0) <= _BOUND_S, f"takeover within {_BOUND_S:.0f} s")


async def _round(cluster: Cluster, rng: random.Random, victim: str) -> tuple[History, list[float]]:
    history = History()
    cluster.marks.take()
    async with AsyncExitStack() as opened:
        users = []
        for number in range(_USERS):
            user = await TimedUser.register(opened, cluster.gateway_urls, f"user-{number}", history)
            user.restarted_s, user.ended_s = {}, {}
            users.append(user)
        give_up_s = time.monotonic() + _CALM_S
        async with asyncio.TaskGroup() as group:
            for number, user in enumerate(users):
                order = make_order(rng, user.name, None)
                history.orders.append(order)
                actor = Actor(user, user, rng, Until(give_up_s, give_up_s))
                group.create_task(actor.run_to_end(order, number % 2))
            await asyncio.sleep(rng.uniform(*_KILL_AFTER_S))
            await cluster.processes[victim].kill()
            killed_s = time.monotonic()
            await cluster.processes[victim].start()
        async with asyncio.TaskGroup() as group:
            for user in users:
                group.create_task(read_aftermath(user, give_up_s))
    history.marks = cluster.marks.take()
    return history, [at_s - killed_s for user in users for at_s in user.restarted_s.values()]
