"""The resources that a cluster's processes hold once all work is done: growth after load is a leak.

Connections to the database are counted separately: pools grow by chance and stay that size. But none of their
connections may still be in use.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import httpx
import psycopg
from bench.resources import Held, connections_to, held
from mesh_common.grpc.edges import SERVICES
from mesh_dev.wait import LOOPBACK
from prometheus_client.parser import text_string_to_metric_families

from chaos.cluster import REPLICAS, Cluster
from chaos.figures.report import Report

_JOBS: Final = "SELECT (SELECT count(*) FROM agent.outbox) + (SELECT count(*) FROM memory.jobs)"
_DONE_WITHIN_S: Final = 300.0
# Until cut connections are closed on both sides.
_SETTLES_S: Final = 40.0
_UNUSED_WITHIN_S: Final = 20.0
# Connections that happen to be open while counting: a scrape, a ping.
_PASSING: Final = 2
_POOL: Final = "mesh_database_pool_connections"


@dataclass(frozen=True, slots=True)
class AtRest:
    held: Held
    to_database: int
    """Its database connections, which `held` also counts; for PostgreSQL, those of all services."""

    @property
    def other_sockets(self) -> int:
        return self.held.sockets - self.to_database


async def at_rest(cluster: Cluster) -> dict[str, AtRest]:
    """By process, once all pending work is done, including memory's. Raises TimeoutError, also if a pool's
    connection stays in use."""
    await _until_done(cluster)
    await asyncio.sleep(_SETTLES_S)
    await _until_unused(cluster)
    ports = {cluster.stack.ports.postgres, *(link.port for name, link in cluster.links.items() if "postgres" in name)}
    to_database = connections_to(cluster.pids, ports)
    return {name: AtRest(one, to_database[name]) for name, one in held(cluster.pids).items()}


def compare(report: Report, before: Mapping[str, AtRest], after: Mapping[str, AtRest]) -> None:
    for name, now in after.items():
        was = before[name]
        report.say(
            f"{name}: {was.held.memory_mib:.0f} to {now.held.memory_mib:.0f} MiB, {was.other_sockets} to "
            f"{now.other_sockets} sockets, besides {was.to_database} and {now.to_database} connections to the database"
        )
        report.require(now.other_sockets <= was.other_sockets + _PASSING, f"{name} is back to its initial connections")
        report.require(now.held.memory_mib <= 1.2 * was.held.memory_mib + 20, f"{name} is back to its initial memory")


async def _until_done(cluster: Cluster) -> None:
    async with (
        asyncio.timeout(_DONE_WITHIN_S),
        await psycopg.AsyncConnection.connect(cluster.stack.postgres.url_of("mesh"), autocommit=True) as connection,
    ):
        while await _jobs(connection):  # noqa: ASYNC110 - no event across processes
            await asyncio.sleep(1.0)


async def _jobs(connection: psycopg.AsyncConnection) -> int:
    found = await (await connection.execute(_JOBS)).fetchone()
    return int(found[0]) if found else 0


async def _until_unused(cluster: Cluster) -> None:
    """A poll of a queue uses a connection for a moment, a leak forever. Raises httpx.HTTPError."""
    ports = [
        cluster.stack.environments.ports_of(service, number).metrics
        for service in SERVICES
        for number in range(REPLICAS.get(service, 1))
    ]
    async with asyncio.timeout(_UNUSED_WITHIN_S), httpx.AsyncClient(trust_env=False) as client:
        for port in ports:
            while _in_use((await client.get(f"http://{LOOPBACK}:{port}/metrics")).raise_for_status().text):  # noqa: ASYNC110
                await asyncio.sleep(0.2)


def _in_use(metrics: str) -> float:
    """Connections in use of all pools together."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.name == _POOL and sample.labels["state"] == "in_use"
    )
