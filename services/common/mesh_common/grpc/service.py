"""Builds a gRPC service from its parts; every `bootstrap.py` opens it last."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import structlog

from mesh_common.grpc.health import Health, ReadinessCheck
from mesh_common.grpc.server import build_health_server, build_server
from mesh_common.process.metrics import metrics_endpoint
from mesh_common.process.settings import GrpcSettings

log = structlog.get_logger()

# The least time of a drain that is left for calls in progress; their responses take a few milliseconds.
_LAST_ANSWERS_S = 1.0

Drain = Callable[[], Awaitable[None]]
BackgroundTask = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ServiceParts:
    """The parts of a service. `background` tasks run concurrently with the server; if one fails, the process ends.

    `before_stop` runs during the drain, when the service is no longer ready but still serves.
    """

    service: str
    proto_services: tuple[str, ...]
    register: Callable[[grpc.aio.Server], Any]
    readiness: Sequence[ReadinessCheck] = ()
    background: Sequence[BackgroundTask] = ()
    before_stop: Drain | None = None


@asynccontextmanager
async def open_grpc_service(settings: GrpcSettings, parts: ServiceParts) -> AsyncIterator[Drain]:
    """Serves while open. Yields the drain: become unready, run `before_stop`, stop the server within `drain_s`."""
    health = Health(parts.readiness)
    server, port = build_server(
        settings,
        service=parts.service,
        service_names=parts.proto_services,
        health=health,
        register=parts.register,
    )

    probes = build_health_server(settings, health)

    async def drain() -> None:
        until_s = time.monotonic() + settings.drain_s
        await health.drain()
        if parts.before_stop:
            await parts.before_stop()
        await server.stop(max(_LAST_ANSWERS_S, until_s - time.monotonic()))

    with metrics_endpoint(settings.metrics_host, settings.metrics_port):
        await health.check_once()
        if probes:
            await probes.start()
        await server.start()
        log.info("grpc.listening", port=port)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(_forever(task)) for task in (health.watch, *parts.background)]
                yield drain
                for task in tasks:
                    task.cancel()
        finally:
            await server.stop(None)
            if probes:
                # Last, so that until then a probe reads "not serving" instead of failing to connect.
                await probes.stop(None)


async def _forever(task: BackgroundTask) -> None:
    await task()
