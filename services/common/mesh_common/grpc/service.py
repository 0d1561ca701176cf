"""A gRPC service from its parts: what every `bootstrap.py` opens at the end."""

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

# What is left of the drain is never less: answers under way take some milliseconds.
_LAST_ANSWERS_S = 1.0

Drain = Callable[[], Awaitable[None]]
BackgroundTask = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ServiceParts:
    """What a service brings. `background` tasks run beside the server until the end; one that fails ends the process.

    `before_stop` runs in the drain after the service became unready and while it still serves.
    """

    service: str
    proto_services: tuple[str, ...]
    register: Callable[[grpc.aio.Server], Any]
    readiness: Sequence[ReadinessCheck] = ()
    background: Sequence[BackgroundTask] = ()
    before_stop: Drain | None = None


@asynccontextmanager
async def open_grpc_service(settings: GrpcSettings, parts: ServiceParts) -> AsyncIterator[Drain]:
    """Serves while open; gives the drain: unready, `before_stop`, then the server with what is left of `drain_s`."""
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
                # To the end, so that a probe reads "not serving" and not a refused connection.
                await probes.stop(None)


async def _forever(task: BackgroundTask) -> None:
    await task()
