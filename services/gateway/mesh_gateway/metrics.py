"""The gateway's metrics, apart from those of its gRPC calls."""

from typing import Final

from mesh_common.process.metrics import LATENCY_BUCKETS_S
from prometheus_client import Counter, Gauge, Histogram

HTTP_REQUESTS: Final = Counter(
    "mesh_gateway_http_requests_total", "HTTP requests answered.", ("route", "method", "status")
)
HTTP_SECONDS: Final = Histogram(
    "mesh_gateway_http_duration_seconds",
    "Duration of HTTP requests; streams from start to end.",
    ("route", "method"),
    buckets=LATENCY_BUCKETS_S,
)
OPEN_STREAMS: Final = Gauge("mesh_gateway_open_streams", "Runs being followed by clients.")
FIRST_TOKEN_SECONDS: Final = Histogram(
    "mesh_gateway_first_token_seconds",
    "Time from the arrival of the request to the first piece of the answer.",
    buckets=LATENCY_BUCKETS_S,
)
LOGINS_HELD_BACK: Final = Counter(
    "mesh_gateway_logins_held_back_total",
    "Logins and new accounts refused without calling auth, which had no capacity a moment before.",
)
REFUSALS: Final = Counter("mesh_gateway_rate_limit_refusals_total", "Requests refused by a rate limit.", ("limit",))
CUT_CONNECTIONS: Final = Counter(
    "mesh_gateway_cut_connections_total", "Connections cut: client too slow, or too many connections.", ("cause",)
)
LIMITS_LOCAL: Final = Gauge("mesh_gateway_rate_limits_local", "1 while limits are per replica: no Redis.")
REFOLLOWS: Final = Counter(
    "mesh_gateway_refollows_total", "Attempts to follow a run again after a cut, by outcome.", ("outcome",)
)
SHARED_STREAMS: Final = Gauge(
    "mesh_gateway_shared_streams", "Streams from agents that carry the events of runs started by this replica."
)
SHARED_CUTS: Final = Counter(
    "mesh_gateway_shared_cuts_total",
    "Runs moved from a shared stream to a stream of their own before they ended, by cause.",
    ("cause",),
)
