"""What the gateway counts besides its gRPC calls."""

from typing import Final

from mesh_common.process.metrics import LATENCY_BUCKETS_S
from prometheus_client import Counter, Gauge, Histogram

HTTP_REQUESTS: Final = Counter(
    "mesh_gateway_http_requests_total", "HTTP requests answered.", ("route", "method", "status")
)
HTTP_SECONDS: Final = Histogram(
    "mesh_gateway_http_duration_seconds",
    "Time of HTTP requests, streams from start to end.",
    ("route", "method"),
    buckets=LATENCY_BUCKETS_S,
)
OPEN_STREAMS: Final = Gauge("mesh_gateway_open_streams", "Runs being followed by clients.")
FIRST_TOKEN_SECONDS: Final = Histogram(
    "mesh_gateway_first_token_seconds",
    "From the arrival of the request to the first piece of the answer.",
    buckets=LATENCY_BUCKETS_S,
)
LOGINS_HELD_BACK: Final = Counter(
    "mesh_gateway_logins_held_back_total",
    "Logins and new accounts refused without asking auth, which had no room a moment before.",
)
REFUSALS: Final = Counter("mesh_gateway_rate_limit_refusals_total", "Requests refused by a limit.", ("limit",))
CUT_CONNECTIONS: Final = Counter(
    "mesh_gateway_cut_connections_total", "Connections cut because the client was too slow, or too many.", ("cause",)
)
LIMITS_LOCAL: Final = Gauge("mesh_gateway_rate_limits_local", "1 while limits are local because Redis is away.")
REFOLLOWS: Final = Counter(
    "mesh_gateway_refollows_total", "Cut streams of runs that were followed again, by outcome.", ("outcome",)
)
SHARED_STREAMS: Final = Gauge(
    "mesh_gateway_shared_streams", "Streams from agents that carry the events of the runs started here."
)
SHARED_CUTS: Final = Counter(
    "mesh_gateway_shared_cuts_total",
    "Runs that left a shared stream before their end and were followed each on its own, by cause.",
    ("cause",),
)
