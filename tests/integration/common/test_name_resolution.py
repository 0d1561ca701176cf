"""Replicas behind one name are replaced: clients resolve the name again when a connection ends."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health
from mesh_common.grpc.client import open_channel
from support.name_server import open_name_server
from support.net import free_port

OLD, NEW = "127.0.0.1", "127.0.0.2"
# Far below the 30 s that gRPC waits between two DNS queries by default.
FOUND_WITHIN_S = 8.0


@asynccontextmanager
async def _replica(address: str, port: int) -> AsyncIterator[grpc.aio.Server]:
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
    server.add_insecure_port(f"{address}:{port}")
    await server.start()
    try:
        yield server
    finally:
        await server.stop(None)


async def test_replicas_that_took_the_place_of_all_known_ones_are_found_in_seconds() -> None:
    port = free_port()
    async with open_name_server() as names, _replica(OLD, port) as old, _replica(NEW, port):
        names.addresses = [OLD]
        async with open_channel(f"dns://127.0.0.1:{names.port}/replicas.test:{port}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)

            names.addresses = [NEW]
            await old.stop(None)
            started_s = time.monotonic()
            await stub.Check(health_pb2.HealthCheckRequest(), timeout=60, wait_for_ready=True)
            took_s = time.monotonic() - started_s

    assert took_s < FOUND_WITHIN_S
