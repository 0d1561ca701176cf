"""The entry point that every `__main__.py` of a gRPC service calls.

Each command imports only what it needs: importing the agent's packages takes 1.7 s of CPU, gRPC and telemetry half a
second, and a migration needs none of them.
"""

import argparse
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from uuid import UUID

from mesh_common.errors import MeshError
from mesh_common.process.collector import pause_collector
from mesh_common.process.logs import configure_logs
from mesh_common.process.settings import GrpcSettings, MigrationSettings, load_settings
from mesh_common.process.signals import end_on_sigterm


def service_main[S: GrpcSettings, M: MigrationSettings](
    service: str, *, settings_class: type[S], migration_settings_class: type[M], job_table: str | None = None
) -> None:
    """Runs the command `serve`, `migrate` or, with a job queue, `dead-letters` of a gRPC service.

    Relies on two parts that every service has: `migrations/` and `bootstrap.open_service`.
    """
    end_on_sigterm()
    arguments = command_parser(service, has_jobs=job_table is not None).parse_args()
    if arguments.command == "migrate":
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
    elif arguments.command == "dead-letters" and job_table:
        from mesh_common.jobs.command import run_command  # noqa: PLC0415 - see the module's docstring

        configure_logs(service, "WARNING")
        run_command(load_settings(settings_class), job_table, arguments)
    else:
        pause_collector()
        from mesh_common.process.serve import run_process, serve_until_signal  # noqa: PLC0415 - the same
        from mesh_common.process.telemetry import tracing  # noqa: PLC0415 - the same

        settings = load_settings(settings_class)
        configure_logs(service, settings.log_level)
        open_service = import_module(f"mesh_{service}.bootstrap").open_service
        with tracing(service, otlp_endpoint=settings.otlp_endpoint, sample_ratio=settings.trace_sample_ratio):
            run_process(serve_until_signal(lambda: open_service(settings)))


def command_parser(service: str, *, has_jobs: bool) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"mesh_{service}")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="run the service")
    commands.add_parser("migrate", help="bring the schema to this release")
    if has_jobs:
        letters = commands.add_parser("dead-letters", help="list jobs that were given up, or send them again")
        letters.add_argument("action", choices=("list", "send-again"))
        letters.add_argument("--kind", help="only jobs of this kind")
        letters.add_argument("--id", type=UUID, help="only this job")
    return parser


def _migrations_of(service: str) -> Path:
    spec = find_spec(f"mesh_{service}")
    if spec is None or spec.origin is None:
        raise RuntimeError(f"mesh_{service} is not installed")
    return Path(spec.origin).parent / "migrations"
