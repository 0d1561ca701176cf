"""Compares the cost of a turn with that of the minimal mesh (`bare`), which is the part that cannot be optimized away.

Batches of both alternate, on the same database, Redis and provider. While the minimal mesh is driven, the polls of the
full mesh continue and count towards the minimal mesh's PostgreSQL.
"""

import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
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

from bench.costs import Batch, measure_batch
from bench.generator import open_generator
from bench.report import say, table
from bench.size import Size
from bench.stack import BURST, PACED, Mesh, Pace, open_mesh
from bench.statistics import as_json, ratios, spreads

_LOADTEST: Final = Path(__file__).parents[1]
_BASES: Final = range(25_000, 26_000, PORTS_PER_STACK)
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
            pairs = []
            for number in range(size.repeats):
                # The order alternates, because the work that one leaves to PostgreSQL is charged to the other.
                turned = number % 2
                batches = [
                    await measure_batch(one, generator, streams=size.streams, turns=size.turns_of(size.streams))
                    for one, generator in (both[::-1] if turned else both)
                ]
                pairs.append((batches[turned], batches[1 - turned]))
                totals = [batch.cpu_ms_per_turn["total"] for batch in pairs[-1]]
                say(f"total {totals[0]:.1f} ms per turn, minimal mesh {totals[1]:.1f}")
    return _figures("in one burst" if pace is BURST else "paced", pairs)


def _figures(how: str, pairs: Sequence[tuple[Batch, Batch]]) -> dict[str, Any]:
    of_mesh, of_bare = [mesh for mesh, _ in pairs], [bare for _, bare in pairs]
    costs = {
        "cpu_ms_per_turn": spreads([batch.cpu_ms_per_turn for batch in of_mesh]),
        "cpu_ms_per_turn_bare": spreads([batch.cpu_ms_per_turn for batch in of_bare]),
        "ratio": ratios([(mesh.cpu_ms_per_turn, bare.cpu_ms_per_turn) for mesh, bare in pairs]),
        # Shows how busy the cores were: a turn costs less when more turns run concurrently.
        "turns_per_s": spreads([{"mesh": mesh.turns_per_s, "bare": bare.turns_per_s} for mesh, bare in pairs]),
    }
    for name, figures in costs.items():
        table(f"{name}, {how}", figures)
    ends = Counter[str]()
    for batch in (*of_mesh, *of_bare):
        ends.update(batch.ends)
    tokens = min(batch.tokens_per_turn for batch in of_bare)
    return {**{name: as_json(one) for name, one in costs.items()}, "ends": dict(ends), "tokens_bare": tokens}


@asynccontextmanager
async def _open_bare(mesh: Mesh, folder: Path) -> AsyncIterator[BareMesh]:
    """Starts the minimal mesh next to the full one, on the same database."""
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
