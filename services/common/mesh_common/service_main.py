"""The entry point that every `__main__.py` of a gRPC service calls.

Each command imports only what it needs: importing the agent's packages takes 1.7 s of CPU, gRPC and telemetry half a
second, and a migration needs none of them.
"""

import argparse
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from mesh_common.errors import MeshError
from mesh_common.process.collector import pause_collector
from mesh_common.process.logs import configure_logs
from mesh_common.process.settings import GrpcSettings, MigrationSettings, load_settings
from mesh_common.process.signals import end_on_sigterm


def service_main[S: GrpcSettings, M: MigrationSettings](
    service: str, *, settings_class: type[S], migration_settings_class: type[M]
) -> None:
    """Runs the command `serve` or `migrate` of a gRPC service.

    Relies on two parts that every service has: `migrations/` and `bootstrap.open_service`.
    """
    end_on_sigterm()
    parser = argparse.ArgumentParser(prog=f"mesh_{service}")
    parser.add_argument("command", choices=("serve", "migrate"))
    command = parser.parse_args().command
    if command == "migrate":
        from mesh_common.database.migrate import migrate  # noqa: PLC0415 - see the module's docstring

        configure_logs(service, "INFO")
        owner = load_settings(migration_settings_class)
        try:
            migrate(
                owner.owner_database_url.get_secret_value(),
                schema=service,
                migrations=_migrations_of(service),
                timeout_s=owner.migration_timeout_s,
            )
        except MeshError as error:
            sys.exit(error.message)
    else:
        pause_collector()
        from mesh_common.process.serve import run_process, serve_until_signal  # noqa: PLC0415 - the same
        from mesh_common.process.telemetry import tracing  # noqa: PLC0415 - the same

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
