"""Counts statements, commits, rows, WAL bytes, Redis commands and gRPC messages, which do not depend on time."""

import time
from dataclasses import dataclass
from typing import Final, Self

import httpx
import psycopg
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from bench.stack import Mesh

_MESSAGES: Final = "mesh_rpc_server_messages_total"
# The statements of the services' logins, available in shared memory immediately. The counters of pg_stat_database and
# pg_stat_wal are published only after a connection has been idle for seconds.
_SENT: Final = """
    SELECT coalesce(sum(calls) FILTER (WHERE query !~* '^(begin|commit|rollback)'), 0),
           coalesce(sum(calls) FILTER (WHERE query ~* '^commit'), 0),
           coalesce(sum(rows) FILTER (WHERE query ~* '(insert|update|delete)'), 0),
           coalesce(sum(wal_bytes), 0)
    FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid
    WHERE r.rolname <> 'postgres' AND s.toplevel
"""
# Commands of the measuring connection itself.
_OWN_COMMANDS: Final = frozenset({"cmdstat_info", "cmdstat_hello", "cmdstat_auth", "cmdstat_client|setinfo"})


@dataclass(frozen=True, slots=True)
class Counts:
    at_s: float
    statements: float
    """Without begin, commit and rollback."""
    commits: float
    rows: float
    """Rows affected by writing statements."""
    wal_bytes: float
    redis_commands: float
    """Including those inside scripts."""
    grpc_messages: float
    """Requests and responses of the calls between services."""

    def since(self, before: Self) -> dict[str, float]:
        return {name: getattr(self, name) - getattr(before, name) for name in self.__slots__}


async def read_counts(mesh: Mesh) -> Counts:
    async with await psycopg.AsyncConnection.connect(mesh.database_url, autocommit=True) as connection:
        sent = await (await connection.execute(_SENT.encode())).fetchone() or (0, 0, 0, 0)
    statements, commits, rows, wal_bytes = map(float, sent)
    return Counts(
        at_s=time.monotonic(),
        statements=statements,
        commits=commits,
        rows=rows,
        wal_bytes=wal_bytes,
        redis_commands=await _redis_commands(mesh.stack.valkey.url),
        grpc_messages=await _grpc_messages(mesh),
    )


async def _redis_commands(url: str) -> float:
    redis: Redis = Redis.from_url(url)
    async with redis:
        stats = await redis.info("commandstats")
    return float(sum(command["calls"] for name, command in stats.items() if name not in _OWN_COMMANDS))


async def _grpc_messages(mesh: Mesh) -> float:
    total = 0.0
    async with httpx.AsyncClient(trust_env=False) as client:
        for url in mesh.stack.metrics_urls.values():
            text = (await client.get(url)).raise_for_status().text
            for family in text_string_to_metric_families(text):
                total += sum(sample.value for sample in family.samples if sample.name == _MESSAGES)
    return total
