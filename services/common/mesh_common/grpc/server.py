"""The gRPC server of every service of the mesh: boundary, health, limits, connection age, reflection."""

from collections.abc import Callable
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from mesh_common.grpc.boundary import BoundaryInterceptor
from mesh_common.grpc.health import Health
from mesh_common.grpc.message_size import MESSAGE_SIZE_OPTIONS
from mesh_common.grpc.service_tokens import ServiceTokenVerifier
from mesh_common.grpc.tls import server_credentials
from mesh_common.process.settings import GrpcSettings

# The time a stream has to end once its connection is asked to close. Then it is cut, and its client follows again.
_CONNECTION_AGE_GRACE_MS = 60_000
# Clients ping every 2 s (`grpc.client`), with and without calls. A server that allows fewer pings closes their
# connections (too_many_pings).
PING_POLICY = (
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ("grpc.keepalive_permit_without_calls", 1),
)
# Otherwise two processes could share a port by accident, and each would get half of the calls.
_OWN_PORT: Final = ("grpc.so_reuseport", 0)
# Anyone who reaches the port may call.
_MAX_HEALTH_RPCS: Final = 100
_HEALTH_OPTIONS: Final = (("grpc.max_receive_message_length", 4_096), *PING_POLICY, _OWN_PORT)


def build_server(
    settings: GrpcSettings,
    *,
    service: str,
    service_names: tuple[str, ...],
    health: Health,
    register: Callable[[grpc.aio.Server], Any],
) -> tuple[grpc.aio.Server, int]:
    """A server that is bound but not started, and its port. `service_names` are full proto names, for reflection."""
    verifier = ServiceTokenVerifier(settings.service_keys(), service=service)
    server = grpc.aio.server(
        interceptors=[BoundaryInterceptor(verifier)],
        options=_options(settings),
        maximum_concurrent_rpcs=settings.grpc_max_concurrent_rpcs,
    )
    register(server)
    health_pb2_grpc.add_HealthServicer_to_server(health.servicer, server)
    if settings.grpc_reflection:
        names = (*service_names, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
    address = f"{settings.grpc_host}:{settings.grpc_port}"
    files = settings.tls_files()
    port = server.add_secure_port(address, server_credentials(files)) if files else server.add_insecure_port(address)
    return server, port


def build_health_server(settings: GrpcSettings, health: Health) -> grpc.aio.Server | None:
    """A second server without TLS, for health only. None if not configured.

    Kubernetes' probes do not support TLS, and must not be refused together with the calls of a service that is full.
    """
    if settings.grpc_health_port is None:
        return None
    server = grpc.aio.server(options=_HEALTH_OPTIONS, maximum_concurrent_rpcs=_MAX_HEALTH_RPCS)
    health_pb2_grpc.add_HealthServicer_to_server(health.servicer, server)
    server.add_insecure_port(f"{settings.grpc_host}:{settings.grpc_health_port}")
    return server


def _options(settings: GrpcSettings) -> tuple[tuple[str, Any], ...]:
    return (
        *MESSAGE_SIZE_OPTIONS,
        ("grpc.max_connection_age_ms", int(settings.grpc_max_connection_age_s * 1000)),
        ("grpc.max_connection_age_grace_ms", _CONNECTION_AGE_GRACE_MS),
        *PING_POLICY,
        # Ends the streams of a client that froze or lost its network.
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.http2.ping_timeout_ms", 5_000),
        _OWN_PORT,
    )
