"""The settings of the gateway, prefix `GATEWAY_`."""

from ipaddress import IPv4Network, IPv6Network

from mesh_common.process.settings import Port, RedisUrl, Seconds, ServiceSettings, settings_config
from pydantic import Field


class GatewaySettings(ServiceSettings):
    model_config = settings_config("GATEWAY_")

    http_host: str = "0.0.0.0"  # noqa: S104 - a pod's only address
    """Listen address of HTTP."""
    http_port: Port = 8000
    """Port of HTTP; 0 picks a free port."""
    auth_target: str = "dns:///auth:50051"
    """gRPC target of auth."""
    agent_target: str = "dns:///agent:50051"
    """gRPC target of agent."""
    memory_target: str = "dns:///memory:50051"
    """gRPC target of memory."""
    eval_target: str = "dns:///eval:50051"
    """gRPC target of eval."""
    redis_url: RedisUrl
    """`redis://:password@host:6379/0`. Holds the rate limits of all replicas and a copy of the signing keys."""
    issuer: str = "https://mesh.local"
    """Claim `iss` of access tokens; also the base of the URLs in /.well-known/openid-configuration."""
    audience: str = "mesh"
    """Claim `aud` of access tokens."""
    login_limit_per_minute: int = Field(default=20, ge=1)
    """Logins per minute from one address and for one account; registrations per minute from one address."""
    chat_limit_per_minute: int = Field(default=100, ge=1)
    """Runs that a user may start per minute."""
    cors_origins: tuple[str, ...] = ()
    """Browser origins that may call the API, e.g. `["https://app.example.com"]`; never `*`."""
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks whose `X-Forwarded-For` is trusted, e.g. `["10.0.0.0/8"]`."""
    max_body_bytes: int = Field(default=1_048_576, ge=1_024, le=16_777_216)
    """Largest request body."""
    max_headers: int = Field(default=100, ge=10)
    """Maximum number of header lines in a request."""
    max_header_bytes: int = Field(default=32_768, ge=1_024)
    """Maximum size of all header names and values of a request together."""
    max_url_bytes: int = Field(default=8_192, ge=256)
    """Maximum size of the path and query of a request together."""
    body_timeout_s: Seconds = 30.0
    """How long a client may pause while it sends a body."""
    header_timeout_s: Seconds = 15.0
    """How long a connection may take to send the headers of a request."""
    write_timeout_s: Seconds = 30.0
    """How long a client may leave an answer unread before its connection is closed."""
    max_connections: int = Field(default=2_000, ge=1)
    """Concurrent connections to this replica. Above `max_open_streams`, because short requests need some too."""
    max_open_streams: int = Field(default=1_000, ge=1)
    """Runs followed concurrently by this replica (an idle stream takes 29 kB)."""
    max_streams_per_user: int = Field(default=20, ge=1)
    """Runs that one user may follow concurrently on this replica."""
    call_timeout_s: Seconds = 5.0
    """Deadline of one call to another service."""
    login_timeout_s: Seconds = 10.0
    """Deadline of calls that hash a password, which may wait for the hashing pool."""
    start_timeout_s: Seconds = 10.0
    """Deadline for the acknowledgement of a run."""
    wait_timeout_s: Seconds = 600.0
    """Deadline of a JSON answer; the run continues after it."""
    ping_interval_s: Seconds = 15.0
    """How long a stream is idle before it gets `: ping`; below every proxy's idle timeout."""
