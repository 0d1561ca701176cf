"""The settings of the gateway, prefix `GATEWAY_`."""

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

from mesh_common.process.settings import Port, RedisUrl, Seconds, ServiceSettings, settings_config
from pydantic import Field, field_validator

# RFC 1918, RFC 6598, RFC 3927, RFC 4193, RFC 4291 and loopback.
_PRIVATE: Final = tuple(
    ip_network(text)
    for text in (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "127.0.0.0/8"),
        *("fc00::/7", "fe80::/10", "::1/128"),
    )
)
# The largest networks that content delivery networks publish: Cloudflare's /12 and /29, for example.
_MAX_PUBLIC_PROXIES: Final = {4: 2**20, 6: 2**99}


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
    """Logins per minute, and registrations per minute, from one client address (IPv6: from one /64). auth also limits
    failed logins by account."""
    anonymous_limit_per_minute: int = Field(default=600, ge=1)
    """Refreshes per minute, and tickets presented per minute, from one client address; and at each replica, invalid
    access tokens per minute and reads of the public documents (OpenAPI, keys). A whole office may share one address."""
    chat_limit_per_minute: int = Field(default=100, ge=1)
    """Runs that a user may start per minute."""
    memory_limit_per_minute: int = Field(default=120, ge=1)
    """Memories that a user may create, change or search per minute: each embeds a text."""
    list_limit_per_minute: int = Field(default=600, ge=1)
    """Pages of lists, searches of titles, usage and scores that a user may read per minute."""
    write_limit_per_minute: int = Field(default=600, ge=1)
    """Threads that a user may create, change or delete per minute, memories to delete, runs to cancel."""
    cors_origins: tuple[str, ...] = ()
    """Browser origins that may call the API, e.g. `["https://app.example.com"]`; never `*`."""
    trusted_proxy_hops: int = Field(default=0, ge=0, le=10)
    """How many proxies are in front of the gateway, each of which appends to `X-Forwarded-For`. Safe if the gateway can
    be reached through them alone; 0 believes no header."""
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    """Addresses of the proxies that connect to the gateway, e.g. `["10.0.3.7/32"]`. Any host in these networks may
    claim any client address, so name proxies alone, not a network that clients or other pods are in. The `traceparent`
    of these proxies is continued."""
    max_body_bytes: int = Field(default=1_048_576, ge=1_024, le=16_777_216)
    """Largest request body."""
    max_headers: int = Field(default=100, ge=10)
    """Maximum number of header lines in a request."""
    max_header_bytes: int = Field(default=32_768, ge=1_024)
    """Maximum size of all header names and values of a request together."""
    max_url_bytes: int = Field(default=8_192, ge=256)
    """Maximum size of the path and query of a request together."""
    body_timeout_s: Seconds = 10.0
    """How long a request's body may take in all, plus one second for each `min_body_bytes_per_s` received."""
    min_body_bytes_per_s: int = Field(default=16_384, ge=1)
    """Rate at which a client must send a large body to be given more time for it."""
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

    @field_validator("trusted_proxies")
    @classmethod
    def _are_no_part_of_the_internet(
        cls, networks: tuple[IPv4Network | IPv6Network, ...]
    ) -> tuple[IPv4Network | IPv6Network, ...]:
        for network in networks:
            if not _is_private(network) and network.num_addresses > _MAX_PUBLIC_PROXIES[network.version]:
                raise ValueError("holds a network that clients are in; name the proxies themselves")
        return networks


def _is_private(network: IPv4Network | IPv6Network) -> bool:
    return any(
        network.version == private.version and private.supernet_of(network)  # type: ignore[arg-type] # same version
        for private in _PRIVATE
    )
