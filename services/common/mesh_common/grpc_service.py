"""A gRPC service from its parts: what every `bootstrap.py` opens at the end, and what every `__main__.py` runs."""

import argparse
import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import grpc
import structlog

from mesh_common.grpc_server import build_server
from mesh_common.health import Health, ReadinessCheck
from mesh_common.logs import configure_logs
from mesh_common.metrics import metrics_endpoint
from mesh_common.migrate import migrate
from mesh_common.serve import run_process, serve_until_signal
from mesh_common.settings import GrpcSettings, MigrationSettings, load_settings
from mesh_common.telemetry import tracing

log = structlog.get_logger()

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

    async def drain() -> None:
        await health.drain()
        if parts.before_stop:
            await parts.before_stop()
        await server.stop(settings.drain_s)

    with metrics_endpoint(settings.metrics_host, settings.metrics_port):
        await health.check_once()
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


async def _forever(task: BackgroundTask) -> None:
    await task()


def service_main[S: GrpcSettings, M: MigrationSettings](
    service: str, *, settings_class: type[S], migration_settings_class: type[M]
) -> None:
    """The commands `serve` and `migrate` of a gRPC service.

    By the files that every service has: `migrations/` and `bootstrap.open_service`, which is imported for `serve`
    only, because the agent's packages alone take 1.7 s of CPU to import and a migration needs none of them.
    """
    parser = argparse.ArgumentParser(prog=f"mesh_{service}")
    parser.add_argument("command", choices=("serve", "migrate"))
    command = parser.parse_args().command
    if command == "migrate":
        configure_logs(service, "INFO")
        owner_url = load_settings(migration_settings_class).owner_database_url.get_secret_value()
        migrate(owner_url, schema=service, migrations=_migrations_of(service))
    else:
        settings = load_settings(settings_class)
        configure_logs(service, settings.log_level)
        open_service = import_module(f"mesh_{service}.bootstrap").open_service
        with tracing(service, otlp_endpoint=settings.otlp_endpoint, sample_ratio=settings.trace_sample_ratio):
            run_process(serve_until_signal(lambda: open_service(settings)))


def _migrations_of(service: str) -> Path:
    spec = find_spec(f"mesh_{service}")
    if spec is None or spec.origin is None:
        raise RuntimeError(f"mesh_{service} is not installed")
    return Path(spec.origin).parent / "migrations"
