# ruff: noqa: INP001, TID251 - a script for containers; a channel to loopback needs no credentials
"""Reports to the engine's health check whether the service in this container is ready: exit code 0 or 1.

Called as `health.py grpc` or `health.py http`. The images contain no other program for this check.
"""

import sys
from urllib.request import urlopen

# Less than the check's own 10 s, so that Python has time to start on a busy machine.
_TIMEOUT_S = 5


def main() -> None:
    if sys.argv[1:] == ["http"]:
        # Raises on any status but 2xx, so the exit code is 1.
        urlopen("http://127.0.0.1:8000/readyz", timeout=_TIMEOUT_S).close()
    elif not _grpc_is_ready():
        sys.exit("not ready")


def _grpc_is_ready() -> bool:
    # Imported here to keep the gateway's check fast.
    import grpc  # noqa: PLC0415
    from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: PLC0415

    with grpc.insecure_channel("127.0.0.1:50052") as channel:
        request = health_pb2.HealthCheckRequest(service="readiness")
        answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=_TIMEOUT_S)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


if __name__ == "__main__":
    main()
