"""What the processes of a cluster hold once all work is done: a storm that leaves more behind is a leak.

Connections that wait in a database pool for their next use are none of it: a pool fills as chance has it, and stays so.
Those in use are: at rest nobody has one.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import httpx
import psycopg
from bench.resources import Held, held
from mesh_common.edges import SERVICES
from mesh_dev.ports import replica_name
from mesh_dev.wait import LOOPBACK
from prometheus_client.parser import text_string_to_metric_families

from chaos.cluster import REPLICAS, Cluster
from chaos.figures.report import Report

_JOBS: Final = "SELECT (SELECT count(*) FROM agent.outbox) + (SELECT count(*) FROM memory.jobs)"
_DONE_WITHIN_S: Final = 300.0
# Until connections that were cut are gone on either side.
_SETTLES_S: Final = 40.0
# What happens to be open at the moment of counting: a scrape, a ping.
_PASSING: Final = 2
_POOL: Final = "mesh_database_pool_connections"


@dataclass(frozen=True, slots=True)
class AtRest:
    held: Held
    pooled: int
    """Connections that wait in its pools; of PostgreSQL those of all services."""
    in_use: int

    @property
    def sockets(self) -> int:
        return self.held.sockets - self.pooled


async def at_rest(cluster: Cluster) -> dict[str, AtRest]:
    """By process, once all that a storm left to do is done, remembering too. Raises TimeoutError."""
    await _until_done(cluster)
    await asyncio.sleep(_SETTLES_S)
    pools = await _pools(cluster)
    pools["postgres"] = {"idle": sum(pool["idle"] for pool in pools.values()), "in_use": 0}
    found = held(cluster.pids)
    return {name: AtRest(one, **_counted(pools.get(name, {}))) for name, one in found.items()}


def compare(report: Report, before: Mapping[str, AtRest], after: Mapping[str, AtRest]) -> None:
    for name, now in after.items():
        was = before[name]
        report.say(
            f"{name}: {was.held.memory_mib:.0f} to {now.held.memory_mib:.0f} MiB, {was.sockets} to {now.sockets} "
            f"sockets beside {was.pooled} and {now.pooled} idle in pools, {now.in_use} in use"
        )
        report.require(now.sockets <= was.sockets + _PASSING, f"{name} has its connections back to the start")
        report.require(not now.in_use, f"{name} uses no connection of its pools")
        report.require(
            now.held.memory_mib <= 1.2 * was.held.memory_mib + 20, f"{name} has its memory back to the start"
        )


def _counted(pool: Mapping[str, int]) -> dict[str, int]:
    return {"pooled": pool.get("idle", 0), "in_use": pool.get("in_use", 0)}


async def _until_done(cluster: Cluster) -> None:
    async with (
        asyncio.timeout(_DONE_WITHIN_S),
        await psycopg.AsyncConnection.connect(cluster.stack.postgres.url_of("mesh"), autocommit=True) as connection,
    ):
        while await _jobs(connection):  # noqa: ASYNC110 - another process' doing has no event
            await asyncio.sleep(1.0)


async def _jobs(connection: psycopg.AsyncConnection) -> int:
    found = await (await connection.execute(_JOBS)).fetchone()
    return int(found[0]) if found else 0


async def _pools(cluster: Cluster) -> dict[str, dict[str, int]]:
    """By process and state. Raises httpx.HTTPError."""
    pools = {}
    async with httpx.AsyncClient(trust_env=False) as client:
        for service in SERVICES:
            for number in range(REPLICAS.get(service, 1)):
                port = cluster.stack.environments.ports_of(service, number).metrics
                text = (await client.get(f"http://{LOOPBACK}:{port}/metrics")).raise_for_status().text
                pools[replica_name(service, number)] = _pool(text)
    return pools


def _pool(text: str) -> dict[str, int]:
    """Of all drivers together."""
    counts = {"idle": 0, "in_use": 0}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == _POOL:
                counts[sample.labels["state"]] += int(sample.value)
    return counts
