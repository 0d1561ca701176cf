"""What a turn costs beside the least mesh (`bare`): the share of it that no code of this project can spare.

Batches of both in turns, on one database, one Redis and one provider. The mesh's polls go on while the least one is
driven, and count as its PostgreSQL's.
"""

import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
from bare.schema import TABLES
from mesh_common.jwt import new_private_key_pem
from mesh_dev.ports import PORTS_PER_STACK, PortPlan, free_base
from mesh_dev.process import ChildProcess, Program
from mesh_dev.wait import LOOPBACK, Waiter, tcp_accepts

from bench.costs import measure_batch
from bench.generator import open_generator
from bench.report import say, table
from bench.size import Size
from bench.stack import BURST, PACED, Mesh, Pace, open_mesh
from bench.statistics import Spread, as_json, spreads

_LOADTEST: Final = Path(__file__).parents[1]
_BASES: Final = range(23_000, 24_000, PORTS_PER_STACK)
_SHARED: Final = ("postgres", "valkey", "simulator")


@dataclass(frozen=True, slots=True)
class BareMesh:
    url: str
    pids: Mapping[str, int]
    database_url: str
    pace: Pace


async def run_bare(size: Size) -> dict[str, Any]:
    return {"paced": await _beside_mesh(size, PACED), "burst": await _beside_mesh(size, BURST)}


async def _beside_mesh(size: Size, pace: Pace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as name:
        async with (
            open_mesh(Path(name), pace) as mesh,
            _open_bare(mesh, Path(name)) as bare,
            open_generator() as of_mesh,
            open_generator() as of_bare,
        ):
            both = ((mesh, of_mesh), (bare, of_bare))
            for one, generator in both:
                await measure_batch(one, generator, streams=size.streams, turns=size.streams)
            pairs, ends = [], Counter[str]()
            for _ in range(size.repeats):
                batches = [
                    await measure_batch(one, generator, streams=size.streams, turns=size.turns)
                    for one, generator in both
                ]
                costs = [batch.cpu_ms_per_turn for batch in batches]
                say(f"total {costs[0]['total']:.1f} ms a turn, the least mesh {costs[1]['total']:.1f}")
                pairs.append(costs)
                for batch in batches:
                    ends.update(batch.ends)
    how = "in one burst" if pace is BURST else "paced"
    return {
        "cpu_ms_per_turn": _told(f"CPU, ms a turn, {how}", [mesh for mesh, _ in pairs]),
        "cpu_ms_per_turn_bare": _told("the least mesh", [bare for _, bare in pairs]),
        "ratio": _told("ratio", [_ratio(*pair) for pair in pairs]),
        "ends": dict(ends),
    }


def _ratio(mesh: Mapping[str, float], bare: Mapping[str, float]) -> dict[str, float]:
    return {name: cost / mesh[name] for name, cost in bare.items() if mesh[name]}


def _told(title: str, costs: list[Mapping[str, float]]) -> dict[str, Any]:
    figures: dict[str, Spread] = spreads(costs)
    table(title, figures)
    return as_json(figures)


@asynccontextmanager
async def _open_bare(mesh: Mesh, folder: Path) -> AsyncIterator[BareMesh]:
    """Beside the mesh, on its database."""
    ports = PortPlan(free_base(_BASES))
    env = {
        "PYTHONPATH": str(_LOADTEST),
        "BARE_GATEWAY_PORT": str(ports.gateway().api),
        "BARE_AGENT_ADDRESS": f"{LOOPBACK}:{ports.agent().api}",
        "BARE_MEMORY_ADDRESS": f"{LOOPBACK}:{ports.memory().api}",
        "BARE_DATABASE_URL": mesh.database_url,
        "BARE_REDIS_URL": mesh.stack.valkey.url,
        "BARE_PROVIDER_URL": mesh.stack.environments.models.base_url,
        "BARE_SIGNING_KEY": new_private_key_pem(),
    }
    async with await psycopg.AsyncConnection.connect(mesh.database_url, autocommit=True) as connection:
        await connection.execute(TABLES)
    async with AsyncExitStack() as opened:
        pids = {name: mesh.pids[name] for name in _SHARED}
        for name, port in (("memory", ports.memory()), ("agent", ports.agent()), ("gateway", ports.gateway())):
            child = ChildProcess(
                Program(name=f"bare-{name}", argv=[sys.executable, "-m", f"bare.{name}"], env=env), folder
            )
            opened.push_async_callback(child.stop)
            await child.start()
            await Waiter().ready(child.name, tcp_accepts(port.api), child)
            pids[name] = child.pid
        yield BareMesh(f"http://{LOOPBACK}:{ports.gateway().api}", pids, mesh.database_url, mesh.pace)
