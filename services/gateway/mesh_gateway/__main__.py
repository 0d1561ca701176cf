"""`python -m mesh_gateway serve`."""

import argparse

from mesh_common.process.collector import pause_collector
from mesh_common.process.logs import configure_logs
from mesh_common.process.settings import load_settings
from mesh_common.process.signals import end_on_sigterm

from mesh_gateway.settings import GatewaySettings


def main() -> None:
    end_on_sigterm()
    parser = argparse.ArgumentParser(prog="mesh_gateway")
    parser.add_argument("command", choices=("serve",))
    parser.parse_args()
    settings = load_settings(GatewaySettings)
    pause_collector()
    # Importing HTTP and gRPC takes a second of CPU, so parse the arguments and settings first.
    from mesh_common.process.serve import run_process, serve_until_signal  # noqa: PLC0415
    from mesh_common.process.telemetry import tracing  # noqa: PLC0415

    from mesh_gateway.bootstrap import open_service  # noqa: PLC0415

    configure_logs("gateway", settings.log_level)
    with tracing("gateway", otlp_endpoint=settings.otlp_endpoint, sample_ratio=settings.trace_sample_ratio):
        run_process(serve_until_signal(lambda: open_service(settings)))


if __name__ == "__main__":
    main()
