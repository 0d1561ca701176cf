"""The faults of a schedule and their times: drawn from its seed, one at a time, and undone afterwards."""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Literal, Protocol, get_args

from chaos.cluster import LEASE_TTL_S, LINK_NAMES, PROCESS_NAMES
from chaos.history import Trouble
from chaos.proxy import FaultProxy

type ProcessFault = Literal["kill", "pause", "restart"]
type LinkFault = Literal["delay", "reset", "half_close", "throttle", "partition", "partition_to", "partition_from"]

type MeshFault = Literal["slow_database", "odd_model"]

PROCESS_FAULTS: Final[tuple[ProcessFault, ...]] = get_args(ProcessFault.__value__)
LINK_FAULTS: Final[tuple[LinkFault, ...]] = get_args(LinkFault.__value__)
MESH_FAULTS: Final[tuple[MeshFault, ...]] = get_args(MeshFault.__value__)
"""Faults of several parts at once. Nobody loses a lease by them."""
# The agent keeps the promises, so it is hit as often as all others together.
_AGENT_WEIGHT: Final = 4
# A delay or throttle that a human would call a bad network.
_DELAY_S: Final = 0.25
_BYTES_PER_S: Final = 4_000.0
_THEN_QUIET_S: Final = 0.3
# A statement then takes 80 ms, and a heartbeat a quarter of a second.
_SLOW_DATABASE_S: Final = 0.04
_TARGETS: Final[Mapping[str, str]] = {"slow_database": "postgres", "odd_model": "model"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """`duration_s` is how long a process is down or paused, or a link bad."""

    at_s: float
    kind: ProcessFault | LinkFault | MeshFault
    target: str
    duration_s: float

    def __str__(self) -> str:
        return f"{self.kind} {self.target} {self.at_s:.1f}+{self.duration_s:.1f}s"


class Child(Protocol):
    def pause(self) -> None: ...
    def resume(self) -> None: ...


class Process(Protocol):
    """A process that can be killed, paused and restarted."""

    @property
    def child(self) -> Child: ...
    async def start(self) -> float: ...
    async def stop(self) -> None: ...
    async def kill(self) -> None: ...


class Victims(Protocol):
    @property
    def processes(self) -> Mapping[str, Process]: ...
    @property
    def links(self) -> Mapping[str, FaultProxy]: ...
    def crowd(self) -> AbstractAsyncContextManager[None]:
        """More readers than the database can serve, while the block runs."""

    def odd_model(self) -> AbstractAsyncContextManager[None]:
        """The model answers in odd forms while the block runs."""


def plan_faults(rng: random.Random, load_s: float) -> list[Fault]:
    """At least one fault; a second one afterwards if it fits into the time of the load."""
    first = _draw(rng, rng.uniform(0.3, 0.45 * load_s))
    second = _draw(rng, first.at_s + first.duration_s + rng.uniform(_THEN_QUIET_S, 2.0))
    return [first, second] if second.at_s + second.duration_s < load_s else [first]


def _draw(rng: random.Random, at_s: float) -> Fault:
    drawn = rng.random()
    if drawn < 0.15:
        # Longer than a lease: heartbeats that wait would lose it.
        kind: MeshFault = rng.choice(MESH_FAULTS)
        return Fault(at_s=at_s, kind=kind, target=_TARGETS[kind], duration_s=rng.uniform(1.0, LEASE_TTL_S + 1.0))
    if drawn < 0.65:
        target = rng.choices(PROCESS_NAMES, [_AGENT_WEIGHT if "agent" in name else 1 for name in PROCESS_NAMES])[0]
        harm = rng.choice(PROCESS_FAULTS)
        if target == "postgres" and harm == "pause":
            # Its backends are separate processes, which would continue.
            harm = "kill"
        return Fault(at_s=at_s, kind=harm, target=target, duration_s=_process_duration_s(rng, harm))
    link = rng.choice(LINK_NAMES)
    return Fault(at_s=at_s, kind=rng.choice(LINK_FAULTS), target=link, duration_s=rng.uniform(0.2, LEASE_TTL_S + 1.0))


def _process_duration_s(rng: random.Random, kind: ProcessFault) -> float:
    match kind:
        case "kill":
            return rng.uniform(0.0, 1.5)
        case "pause":
            # Mostly longer than a lease, so that it resumes as a stale owner; sometimes only briefly.
            return rng.uniform(LEASE_TTL_S + 0.3, LEASE_TTL_S + 1.5) if rng.random() < 0.7 else rng.uniform(0.2, 1.5)
        case "restart":
            return 0.0


async def torment(victims: Victims, faults: Sequence[Fault], troubles: list[Trouble]) -> None:
    """Injects each fault at its time, and records in `troubles` when it happened.

    Afterwards, even after an error, everything runs and no link has a fault.
    """
    started_s = time.monotonic()
    for fault in faults:
        await asyncio.sleep(max(0.0, started_s + fault.at_s - time.monotonic()))
        begun_s = time.monotonic()
        if fault.kind in MESH_FAULTS:
            await _harm_mesh(victims, fault)
        elif fault.target in victims.links:
            await _harm_link(victims.links[fault.target], fault)
        else:
            await _harm_process(victims.processes[fault.target], fault)
        troubles.append(Trouble(kind=fault.kind, target=fault.target, begun_s=begun_s, ended_s=time.monotonic()))


async def _harm_process(process: Process, fault: Fault) -> None:
    match fault.kind:
        case "pause":
            process.child.pause()
            try:
                await asyncio.sleep(fault.duration_s)
            finally:
                process.child.resume()
            return
        case "kill":
            await process.kill()
            await asyncio.sleep(fault.duration_s)
        case _:
            await process.stop()
    await process.start()


async def _harm_mesh(victims: Victims, fault: Fault) -> None:
    if fault.kind == "odd_model":
        async with victims.odd_model():
            await asyncio.sleep(fault.duration_s)
        return
    slow = [link for name, link in victims.links.items() if name.endswith(">postgres")]
    try:
        for link in slow:
            link.delay_s = _SLOW_DATABASE_S
        async with victims.crowd():
            await asyncio.sleep(fault.duration_s)
    finally:
        for link in slow:
            link.clean()


async def _harm_link(link: FaultProxy, fault: Fault) -> None:
    try:
        _spoil(link, fault.kind)
        await asyncio.sleep(fault.duration_s)
    finally:
        link.clean()


def _spoil(link: FaultProxy, kind: str) -> None:
    match kind:
        case "delay":
            link.delay_s = _DELAY_S
        case "throttle":
            link.bytes_per_s = _BYTES_PER_S
        case "reset":
            link.resets_new = True
            link.reset()
        case "half_close":
            link.half_close("client")
        case "partition":
            link.partition()
        case "partition_to":
            link.partition("server")
        case "partition_from":
            link.partition("client")
        case _:
            raise ValueError(kind)
