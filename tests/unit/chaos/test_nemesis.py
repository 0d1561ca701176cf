import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from chaos.cluster import LINK_NAMES, PROCESS_NAMES
from chaos.history import Trouble
from chaos.nemesis import LINK_FAULTS, MESH_FAULTS, PROCESS_FAULTS, Fault, Process, ProcessFault, plan_faults, torment
from chaos.proxy import FaultProxy
from chaos.rules_runs import COSTS_NO_LEASE

SEEDS = range(500)
LOAD_S = 4.5


@dataclass(frozen=True, slots=True)
class Victims:
    processes: Mapping[str, Process]
    links: Mapping[str, FaultProxy]
    log: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def crowd(self) -> AsyncIterator[None]:
        delays = {name: link.delay_s for name, link in self.links.items()}
        self.log.append(f"crowd with {delays}")
        yield
        self.log.append("crowd leaves")

    @asynccontextmanager
    async def odd_model(self) -> AsyncIterator[None]:
        self.log.append("odd")
        yield
        self.log.append("even")


class RecordedProcess:
    def __init__(self, log: list[str]) -> None:
        self._log = log
        self.child = self

    def pause(self) -> None:
        self._log.append("pause")

    def resume(self) -> None:
        self._log.append("resume")

    async def start(self) -> float:
        self._log.append("start")
        return 0.0

    async def stop(self) -> None:
        self._log.append("stop")

    async def kill(self) -> None:
        self._log.append("kill")


def plan(seed: int) -> Sequence[Fault]:
    return plan_faults(random.Random(seed), LOAD_S)  # noqa: S311 - no secret


def test_a_seed_gives_the_same_faults_again() -> None:
    assert plan(7) == plan(7)
    assert plan(7) != plan(8)


@pytest.mark.parametrize("seed", SEEDS[:50])
def test_faults_come_one_at_a_time_and_under_load(seed: int) -> None:
    faults = plan(seed)

    assert faults
    assert all(0 < fault.at_s < LOAD_S for fault in faults)
    assert all(before.at_s + before.duration_s < after.at_s for before, after in pairwise(faults))


def test_every_process_every_link_and_every_kind_is_hit() -> None:
    faults = [fault for seed in SEEDS for fault in plan(seed)]

    assert {fault.target for fault in faults} == {*PROCESS_NAMES, *LINK_NAMES, "model"}
    assert {fault.kind for fault in faults} == {*PROCESS_FAULTS, *LINK_FAULTS, *MESH_FAULTS}
    assert not any(fault.target == "postgres" and fault.kind == "pause" for fault in faults)


@pytest.mark.parametrize(
    ("kind", "done"),
    [("kill", ["kill", "start"]), ("restart", ["stop", "start"]), ("pause", ["pause", "resume"])],
)
async def test_a_process_runs_again_after_its_fault(kind: ProcessFault, done: Sequence[str]) -> None:
    log: list[str] = []
    troubles: list[Trouble] = []
    victims = Victims({"agent": RecordedProcess(log)}, {})

    await torment(victims, [Fault(at_s=0.0, kind=kind, target="agent", duration_s=0.0)], troubles)

    assert log == done
    assert [(trouble.kind, trouble.target) for trouble in troubles] == [(kind, "agent")]
    assert troubles[0].begun_s <= troubles[0].ended_s


async def test_a_slow_database_is_slow_for_all_agents_and_for_nobody_else_and_a_crowd_comes() -> None:
    links = {name: FaultProxy(name, 9) for name in ("agent>postgres", "agent-2>postgres", "agent>model")}
    victims = Victims({}, links)
    fault = Fault(at_s=0.0, kind="slow_database", target="postgres", duration_s=0.0)

    await torment(victims, [fault], [])

    assert victims.log == [
        "crowd with {'agent>postgres': 0.04, 'agent-2>postgres': 0.04, 'agent>model': 0.0}",
        "crowd leaves",
    ]
    assert {link.delay_s for link in links.values()} == {0.0}


async def test_the_model_is_odd_for_as_long_as_the_fault_lasts() -> None:
    victims = Victims({}, {})

    await torment(victims, [Fault(at_s=0.0, kind="odd_model", target="model", duration_s=0.0)], [])

    assert victims.log == ["odd", "even"]


def test_the_rules_know_which_faults_cost_no_lease() -> None:
    assert set(MESH_FAULTS) == COSTS_NO_LEASE
