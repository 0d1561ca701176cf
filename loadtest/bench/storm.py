"""Measures how more logins than the cores can hash affect users who chat."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bench.generator import Generator
from bench.latency import ends, felt
from bench.load import Plan, Seen
from bench.logins import REFUSED, Login, People
from bench.loops import closed_loop, open_loop
from bench.resources import Held, held, machine_cpu_s, own_cpu_s
from bench.stack import Mesh, Pace
from bench.statistics import percentiles

# Multiple of the login rate that the mesh sustains.
STORM: Final = 3
# Enough to keep every core busy with a password, but fewer than may wait in the queue.
_AT_ONCE: Final = 32
_TURNS_PER_USER: Final = 4


@dataclass(frozen=True, slots=True)
class Chat:
    """`rate` turns per second for `for_s` seconds, in separate threads."""

    mesh: Mesh
    generator: Generator
    rate: float
    for_s: float

    async def run(self) -> Seen:
        turns = int(self.rate * self.for_s)
        return await self.generator.run(self._plan(turns), self._threads)

    async def warm_up(self) -> None:
        """Creates users and threads, and runs one turn in each thread."""
        plan = Plan(self.mesh.url, self._plan(0).users, turns=self._threads, streams=self._threads)
        await self.generator.run(plan, self._threads)

    @property
    def took_s(self) -> float:
        """Time from the first turn to the end of the last, counting only the model's time."""
        return self.for_s + self.mesh.pace.turn_s

    @property
    def _threads(self) -> int:
        return int(self.rate * self.mesh.pace.turn_s * 3) + 10

    def _plan(self, turns: int) -> Plan:
        return Plan(self.mesh.url, max(1, self._threads // _TURNS_PER_USER), turns, rate=self.rate)


@dataclass(frozen=True, slots=True)
class Storm:
    """The same chat alone, and concurrently with logins at a constant rate."""

    alone: Mapping[str, float]
    beside: Mapping[str, float]
    logins: Sequence[Login]
    cores: Mapping[str, float]
    """Cores used by process. `load_generators` drive the mesh; `elsewhere` is the rest of the machine. A storm is not
    valid if `elsewhere` used much."""
    chat_ends: Mapping[str, int]


async def logins_per_s(people: People, count: int) -> float:
    """The rate of logins that the mesh sustains in a closed loop.

    Raises:
        RuntimeError: a login failed.
    """
    began_s = time.monotonic()
    logins = await closed_loop(people.log_in, count=count, at_once=_AT_ONCE)
    took_s = time.monotonic() - began_s
    if failed := Counter(login.end for login in logins if login.end != "200"):
        raise RuntimeError(f"logins failed: {dict(failed)}")
    return count / took_s


async def measure_storm(chat: Chat, people: People, rate: float) -> Storm:
    alone = await chat.run()
    before, machine_before_s, own_before_s, began_s = _used(chat.mesh)
    async with asyncio.TaskGroup() as group:
        storm = group.create_task(open_loop(people.log_in, count=int(rate * chat.took_s), rate=rate))
        beside = await chat.run()
    after, machine_after_s, own_after_s, ended_s = _used(chat.mesh)
    took_s = ended_s - began_s
    cores = {name: (after[name].cpu_s - before[name].cpu_s) / took_s for name in after}
    cores["load_generators"] = (own_after_s - own_before_s + beside.cpu_s) / took_s
    cores["elsewhere"] = (machine_after_s - machine_before_s) / took_s - sum(cores.values())
    return Storm(
        felt(alone.turns, chat.mesh.pace),
        felt(beside.turns, chat.mesh.pace),
        storm.result(),
        cores,
        ends([*alone.turns, *beside.turns]),
    )


def _used(mesh: Mesh) -> tuple[Mapping[str, Held], float, float, float]:
    return held(mesh.pids), machine_cpu_s(), own_cpu_s(), time.monotonic()


def answers(storms: Sequence[Storm]) -> dict[str, int]:
    return dict(Counter(login.end for storm in storms for login in storm.logins).most_common())


def chat_ends(storms: Sequence[Storm]) -> dict[str, int]:
    """How all turns ended, alone and during the storm."""
    return dict(sum((Counter(storm.chat_ends) for storm in storms), Counter()))


def logins_ms(storm: Storm) -> dict[str, float]:
    """Time from when logins were due to their answers, for accepted and for rejected ones."""
    by_end = {end: [login.took_s * 1_000 for login in storm.logins if login.end == end] for end in ("200", REFUSED)}
    return {**percentiles("accepted_ms", by_end["200"]), **percentiles("refused_ms", by_end[REFUSED])}


def chat_p99_ratios(storm: Storm, pace: Pace) -> dict[str, float]:
    """Ratios of the storm to chat alone: for total times, including the model's, and for the time added by the mesh."""
    model_ms = {"first_token": pace.ttft_ms, "turn": pace.turn_s * 1_000}
    added = {name: (storm.beside[f"added_{name}_ms_p99"], storm.alone[f"added_{name}_ms_p99"]) for name in model_ms}
    whole = {name: (beside + model_ms[name], alone + model_ms[name]) for name, (beside, alone) in added.items()}
    both = whole | {f"added_{name}": pair for name, pair in added.items()}
    return {name: beside / alone if alone else 0.0 for name, (beside, alone) in both.items()}
