# ruff: noqa: INP001, TID251 - a script for containers; a channel to oneself needs no credentials
"""Whether the service in this container is ready, for the engine's health check: exit code 0 or 1.

The images hold no other program that could ask. `health.py grpc` or `health.py http`.
"""

import sys
from urllib.request import urlopen

# Below the 10 s of the check, which leaves the rest for Python to start on a busy machine.
_TIMEOUT_S = 5


def main() -> None:
    if sys.argv[1:] == ["http"]:
        # Raises, and so exits with 1, on any status but 2xx.
        urlopen("http://127.0.0.1:8000/readyz", timeout=_TIMEOUT_S).close()
    elif not _grpc_is_ready():
        sys.exit("not ready")


def _grpc_is_ready() -> bool:
    # Here, because the gateway's check shall not pay for the import.
    import grpc  # noqa: PLC0415
    from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: PLC0415

    with grpc.insecure_channel("127.0.0.1:50051") as channel:
        asked = health_pb2.HealthCheckRequest(service="readiness")
        answer = health_pb2_grpc.HealthStub(channel).Check(asked, timeout=_TIMEOUT_S)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


if __name__ == "__main__":
    main()
