"""What the gateway is told."""

from ipaddress import IPv4Network, IPv6Network

from mesh_common.process.settings import Port, RedisUrl, Seconds, ServiceSettings, settings_config
from pydantic import Field


class GatewaySettings(ServiceSettings):
    model_config = settings_config("GATEWAY_")

    http_host: str = "0.0.0.0"  # noqa: S104 - a pod's only address
    """Address that HTTP listens on."""
    http_port: Port = 8000
    """Port of HTTP; 0 picks a free one."""
    auth_target: str = "dns:///auth:50051"
    """gRPC target of auth."""
    agent_target: str = "dns:///agent:50051"
    """gRPC target of agent."""
    memory_target: str = "dns:///memory:50051"
    """gRPC target of memory."""
    eval_target: str = "dns:///eval:50051"
    """gRPC target of eval."""
    redis_url: RedisUrl
    """`redis://:password@host:6379/0`: rate limits of all replicas and the copy of the signing keys."""
    issuer: str = "https://mesh.local"
    """Claim `iss` of access tokens; also the base of the URLs in /.well-known/openid-configuration."""
    audience: str = "mesh"
    """Claim `aud` of access tokens."""
    login_limit_per_minute: int = Field(default=20, ge=1)
    """Logins a minute of one address, and for one account; registrations of one address."""
    chat_limit_per_minute: int = Field(default=100, ge=1)
    """Runs a user may start in a minute."""
    cors_origins: tuple[str, ...] = ()
    """Origins of browsers that may call, e.g. `["https://app.example.com"]`; never `*`."""
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks whose `X-Forwarded-For` is believed, e.g. `["10.0.0.0/8"]`."""
    max_body_bytes: int = Field(default=1_048_576, ge=1_024, le=16_777_216)
    """Largest request body."""
    max_headers: int = Field(default=100, ge=10)
    """Header lines of one request."""
    max_header_bytes: int = Field(default=32_768, ge=1_024)
    """All header names and values of one request together."""
    max_url_bytes: int = Field(default=8_192, ge=256)
    """Path and query of one request together."""
    body_timeout_s: Seconds = 30.0
    """How long the client may pause while it sends a body."""
    header_timeout_s: Seconds = 15.0
    """How long a connection may take to send the headers of a request."""
    write_timeout_s: Seconds = 30.0
    """How long a client may leave an answer unread before its connection is cut."""
    max_connections: int = Field(default=2_000, ge=1)
    """Connections at once to this replica; above `max_open_streams`, for short requests need some too."""
    max_open_streams: int = Field(default=1_000, ge=1)
    """Runs followed at once by this replica (an idle stream takes 29 kB)."""
    max_streams_per_user: int = Field(default=20, ge=1)
    """Runs one user may follow at once on this replica."""
    call_timeout_s: Seconds = 5.0
    """Deadline of one call to another service."""
    login_timeout_s: Seconds = 10.0
    """Deadline of calls that hash a password: they may wait for the hashing pool."""
    start_timeout_s: Seconds = 10.0
    """How long a run may take to be acknowledged."""
    wait_timeout_s: Seconds = 600.0
    """How long a JSON answer may take; the run goes on after it."""
    ping_interval_s: Seconds = 15.0
    """Pause after which an idle stream gets `: ping`; below every proxy's idle timeout."""
