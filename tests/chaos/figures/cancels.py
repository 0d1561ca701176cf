"""Cancels in the middle of an answer, from any gateway: how soon the provider's connection closes, what is billed."""

import asyncio
import random
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from bench.statistics import percentile
from mesh_common.ids import new_id
from mesh_dev.mesh_client import API
from simulator.client import SimulatorAdmin

from chaos.client import ChaosUser
from chaos.cluster import ServiceEnv, open_cluster
from chaos.figures.report import Report, spread
from chaos.history import History, Order

_BOUND_S = 0.25
_PACE_MS = 20


async def measure(report: Report, data_dir: Path, count: int, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - no secret
    quiet: ServiceEnv = {
        "agent": {"AGENT_EVAL_SAMPLE_RATIO": "0", "AGENT_REMEMBER_DELAY_S": "60", "AGENT_LEASE_TTL_S": "6"}
    }
    async with open_cluster(data_dir, quiet, {"SIM_REQUEST_LOG": "5000"}) as cluster, AsyncExitStack() as opened:
        admin = await opened.enter_async_context(SimulatorAdmin(cluster.stack.model_url))
        user = await ChaosUser.register(opened, cluster.gateway_urls, "user", History())
        left: list[float] = []
        beyond: list[float] = []
        for _ in range(count):
            latency_s, tokens_beyond = await _cancel(user, admin, rng)
            left.append(latency_s)
            beyond.append(tokens_beyond)
    report.say(f"from the cancel request until the provider's connection closed: {spread(left, digits=3)}")
    report.say(f"tokens the provider sent beyond those billed: {spread(beyond, unit='tokens', digits=0)}")
    report.require(percentile(left, 99) <= _BOUND_S, f"the provider's connection closes within {_BOUND_S} s (p99)")
    report.require(min(beyond, default=0) >= 0, "nothing is billed that was not sent")
    report.require(max(beyond, default=0) <= _BOUND_S * 1_000 / _PACE_MS + 1, "what was received is billed")


async def _cancel(user: ChaosUser, admin: SimulatorAdmin, rng: random.Random) -> tuple[float, float]:
    mark = new_id().hex
    message = f"Say {mark}. [[sim:tokens=500]][[sim:itl={_PACE_MS}]]"
    order = Order(user=user.name, key=mark, message=message, reply="")
    gateway = rng.randrange(2)
    answer = await user.post_stream(order, gateway, leave_after=rng.randrange(3, 12))
    run_id = answer.call.run_id
    await asyncio.sleep(rng.uniform(0.0, 0.3))
    # The simulator reports Unix times.
    asked_s = time.time()
    path = f"{API}/runs/{run_id}/cancel"
    cancelled = await user.request("cancel", "POST", path, rng.randrange(2), run_id=run_id)
    sent = await _provider_request(admin, mark)
    billed = int(cancelled.body["usage"]["output_tokens"])
    return float(sent["ended_at_s"]) - asked_s, float(sent["tokens"]) - billed


async def _provider_request(admin: SimulatorAdmin, mark: str) -> dict[str, Any]:
    async with asyncio.timeout(20):
        while True:
            for request in reversed(await admin.requests(50)):
                if mark in str(request["body"]) and request["ended_at_s"] is not None:
                    return dict(request)
            await asyncio.sleep(0.02)
