"""A thread of 1,000 real turns: what the first and the last of them cost in CPU time, by process."""

from contextlib import AsyncExitStack
from pathlib import Path

from bench.resources import held

from chaos.client import ChaosUser
from chaos.cluster import ServiceEnv, open_cluster
from chaos.figures.report import Report
from chaos.history import History, Order

_PART = 100


async def measure(report: Report, data_dir: Path, count: int, seed: int) -> None:
    del seed
    quiet: ServiceEnv = {"agent": {"AGENT_EVAL_SAMPLE_RATIO": "0", "AGENT_REMEMBER_DELAY_S": "60"}}
    async with open_cluster(data_dir, quiet) as cluster, AsyncExitStack() as opened:
        user = await ChaosUser.register(opened, cluster.gateway_urls, "user", History())
        thread_id = str((await user.clients[0].post("/threads", {})).raise_for_status().json()["id"])
        spent: list[dict[str, float]] = []
        for start in range(0, count, _PART):
            before = held(cluster.pids)
            for number in range(start, start + _PART):
                order = Order(
                    user=user.name,
                    key=f"turn-{number}",
                    message=f"[[sim:tokens=20]] {number}",
                    reply="",
                    thread_id=thread_id,
                )
                answer = await user.post_stream(order, number % 2)
                assert answer.call.outcome == "ok", answer
            after = held(cluster.pids)
            spent.append({name: (after[name].cpu_s - before[name].cpu_s) * 1_000 / _PART for name in after})
            report.say(f"turns {start + 1} to {start + _PART}: {_shown(spent[-1])}")
    # The first part warms caches and plans up.
    early, late = sum(spent[1].values()), sum(spent[-1].values())
    report.say(f"turns {_PART + 1} to {2 * _PART}: {early:.1f} ms a turn; the last {_PART}: {late:.1f} ms")
    report.require(late <= 1.1 * early, "the last turns cost within 10 % of the early ones")


def _shown(costs: dict[str, float]) -> str:
    return ", ".join(f"{name} {ms:.1f}" for name, ms in costs.items() if ms >= 0.1) + " ms CPU a turn"
