"""A thread of 1,000 real turns: the CPU time of its last turns and of turns 11 to 60 of new threads.

Figures are without and with memory's work. Measured alternately, three times, and compared pair by pair: a shared
machine's speed drifts by a quarter within a minute.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.resources import Held, held

from chaos.client import ChaosUser
from chaos.cluster import Cluster, ServiceEnv, open_cluster
from chaos.figures.report import Report
from chaos.history import History, Order

# The CPU time of 10 turns is only a few ticks of /proc per process.
_PART = 50
_FIRST = 10
_PAIRS = 3
# Longer than a turn, so that memory gets a part after it and in one delivery; the delay grows at most tenfold.
_REMEMBER_DELAY_S = 2
_REMEMBERED_AFTER_S = 8.0

# Ratio of late turns to early ones.
_MOST = 1.1

type CPU = Mapping[str, float]
"""Milliseconds per turn, by process."""


@dataclass(frozen=True, slots=True)
class Part:
    saying: CPU
    remembering: CPU

    @property
    def saying_ms(self) -> float:
        return sum(self.saying.values())

    @property
    def all_ms(self) -> float:
        return self.saying_ms + sum(self.remembering.values())


@dataclass(frozen=True, slots=True)
class Talk:
    """One thread of a user."""

    cluster: Cluster
    user: ChaosUser
    thread_id: str

    async def say(self, first: int, last: int) -> None:
        for number in range(first, last + 1):
            order = Order(
                user=self.user.name,
                key=f"{self.thread_id}-{number}",
                message=f"[[sim:tokens=20]] {number}",
                reply="",
                thread_id=self.thread_id,
            )
            answer = await self.user.post_stream(order, number % 2)
            assert answer.call.outcome == "ok", answer

    async def measured(self, first: int, last: int) -> Part:
        """The cost of these turns, `_PART` in number."""
        await asyncio.sleep(_REMEMBERED_AFTER_S)
        before = held(self.cluster.pids)
        await self.say(first, last)
        said = held(self.cluster.pids)
        await asyncio.sleep(_REMEMBERED_AFTER_S)
        return Part(_between(before, said), _between(said, held(self.cluster.pids)))


async def measure(report: Report, data_dir: Path, count: int, seed: int) -> None:
    del seed
    quiet: ServiceEnv = {"agent": {"AGENT_EVAL_SAMPLE_RATIO": "0", "AGENT_REMEMBER_DELAY_S": str(_REMEMBER_DELAY_S)}}
    async with open_cluster(data_dir, quiet) as cluster, AsyncExitStack() as opened:
        user = await ChaosUser.register(opened, cluster.gateway_urls, "user", History())
        warming, talk = [await _talk(cluster, user) for _ in range(2)]
        # Fills caches and plans, on a separate thread.
        await warming.say(1, 2 * _PART)
        await talk.say(1, count - _PAIRS * _PART)
        pairs = []
        for left in range(_PAIRS, 0, -1):
            fresh = await _talk(cluster, user)
            await fresh.say(1, _FIRST)
            early = await _shown(report, fresh, _FIRST + 1)
            pairs.append((early, await _shown(report, talk, count - left * _PART + 1)))
    _compare(report, "without memory", [(early.saying_ms, late.saying_ms) for early, late in pairs])
    _compare(report, "with memory", [(early.all_ms, late.all_ms) for early, late in pairs])


def _compare(report: Report, what: str, pairs: Sequence[tuple[float, float]]) -> None:
    ratio = median(late / early for early, late in pairs)
    figures = ", ".join(f"{early:.1f} and {late:.1f}" for early, late in pairs)
    report.say(f"{what}: {figures} ms CPU per turn early and late, {ratio:.2f} times")
    report.require(ratio <= _MOST, f"late turns cost within 10 % of early ones, {what}")


def _between(before: Mapping[str, Held], after: Mapping[str, Held]) -> CPU:
    return {name: (after[name].cpu_s - before[name].cpu_s) * 1_000 / _PART for name in after}


async def _talk(cluster: Cluster, user: ChaosUser) -> Talk:
    created = (await user.clients[0].post("/threads", {})).raise_for_status()
    return Talk(cluster, user, str(created.json()["id"]))


async def _shown(report: Report, talk: Talk, first: int) -> Part:
    part = await talk.measured(first, first + _PART - 1)
    for name, cpu in (("saying", part.saying), ("remembering", part.remembering)):
        by_process = ", ".join(f"{process} {ms:.1f}" for process, ms in cpu.items() if ms >= 0.1)
        report.say(f"turns {first} to {first + _PART - 1}, {name}: {by_process} ms CPU a turn")
    return part
