"""CPU time per turn by process, from complete batches of turns in a closed loop."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import mean
from typing import Final, Protocol

import psycopg

from bench.generator import Generator
from bench.latency import ends, felt, success
from bench.load import Plan
from bench.resources import Held, held
from bench.stack import Pace

TURN_PATH: Final = ("gateway", "agent", "auth", "memory", "eval", "postgres", "valkey")
_SETTLED: Final = b"SELECT count(*) FROM agent.outbox WHERE kind = 'record_usage'"
_SETTLES_WITHIN_S: Final = 30.0


class Measured(Protocol):
    """A mesh that can be measured: its URL, its processes, and the database that shows when all work is done."""

    @property
    def url(self) -> str: ...
    @property
    def pids(self) -> Mapping[str, int]: ...
    @property
    def database_url(self) -> str: ...
    @property
    def pace(self) -> Pace: ...


@dataclass(frozen=True, slots=True)
class Batch:
    """Figures by process, and `total` for the turn path. `cpu_ms_per_turn` also has `load_generator`."""

    cpu_ms_per_turn: Mapping[str, float]
    switches_per_turn: Mapping[str, float]
    latency: Mapping[str, float]
    memory_mib: Mapping[str, float]
    turns_per_s: float
    tokens_per_turn: float
    """Of the successful turns."""
    success: float
    ends: Mapping[str, int]


async def measure_batch(mesh: Measured, generator: Generator, *, streams: int, turns: int, users: int = 50) -> Batch:
    await settled(mesh)
    before = held(mesh.pids)
    seen = await generator.run(Plan(mesh.url, users, turns, streams=streams), threads=streams)
    # Pending deliveries belong to the cost of the turn.
    await settled(mesh)
    after = held(mesh.pids)
    good = [turn for turn in seen.turns if turn.has_succeeded]
    cost = _with_total({name: (after[name].cpu_s - before[name].cpu_s) * 1_000 / turns for name in after})
    switches = {name: (after[name].switches - before[name].switches) / turns for name in after}
    return Batch(
        cpu_ms_per_turn=cost | {"load_generator": seen.cpu_s * 1_000 / turns},
        switches_per_turn=_with_total(switches),
        latency=felt(seen.turns, mesh.pace),
        memory_mib=_memory(after),
        turns_per_s=len(good) / seen.took_s,
        tokens_per_turn=mean(turn.tokens for turn in good) if good else 0.0,
        success=success(seen.turns),
        ends=ends(seen.turns),
    )


def _with_total(by_process: Mapping[str, float]) -> dict[str, float]:
    return {**by_process, "total": sum(by_process[name] for name in TURN_PATH if name in by_process)}


def _memory(processes: Mapping[str, Held]) -> dict[str, float]:
    return {name: round(process.memory_mib, 1) for name, process in processes.items()}


async def settled(mesh: Measured) -> None:
    """Waits until the usage of every turn has been delivered."""
    async with (
        asyncio.timeout(_SETTLES_WITHIN_S),
        await psycopg.AsyncConnection.connect(mesh.database_url, autocommit=True) as connection,
    ):
        while await _pending(connection):  # noqa: ASYNC110 - another process does the work, so there is no event
            await asyncio.sleep(0.1)


async def _pending(connection: psycopg.AsyncConnection) -> int:
    found = await (await connection.execute(_SETTLED)).fetchone()
    return int(found[0]) if found else 0
