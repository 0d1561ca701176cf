"""Prometheus: the metrics that all services share, and the internal port that serves them.

Names are `mesh_<service>_<noun>_<unit>`, without the service if all services have the metric. Labels come from closed
sets, never from ids or paths.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Counter, Gauge, Histogram, start_http_server

LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

RPC_SERVER_SECONDS = Histogram(
    "mesh_rpc_server_duration_seconds",
    "Duration of gRPC calls served; streams from start to end.",
    ("rpc", "code"),
    buckets=LATENCY_BUCKETS_S,
)
RPC_CLIENT_SECONDS = Histogram(
    "mesh_rpc_client_duration_seconds",
    "Duration of gRPC calls made; streams from start to end.",
    ("rpc", "code"),
    buckets=LATENCY_BUCKETS_S,
)
RPC_SERVER_MESSAGES = Counter(
    "mesh_rpc_server_messages_total", "Messages of gRPC calls served, requests and responses.", ("rpc",)
)
RPC_SERVER_OPEN = Gauge("mesh_rpc_server_open", "gRPC calls being served.", ("rpc",))
DATABASE_POOL = Gauge(
    "mesh_database_pool_connections", "Connections of the service's database pools, by pool.", ("pool", "state")
)
DATABASE_REFUSED = Counter(
    "mesh_database_refused_total", "Requests refused because the pool had been full for a second.", ("pool",)
)
QUEUE_OLDEST_SECONDS = Gauge("mesh_queue_oldest_age_seconds", "Age of the oldest job that is due.", ("queue",))
JOB_DEAD_LETTERS = Gauge("mesh_job_dead_letters", "Jobs that were given up and are kept.", ("queue",))
JOB_UNKNOWN_KINDS = Gauge(
    "mesh_job_unknown_kinds",
    "Due jobs of kinds that this replica does not know: a newer release queued them.",
    ("queue",),
)
QUEUE_JOBS = Counter("mesh_queue_jobs_total", "Jobs processed, by outcome.", ("queue", "outcome"))


@contextmanager
def metrics_endpoint(host: str, port: int) -> Iterator[None]:
    """Serves /metrics during the block, in its own thread so that it answers while the event loop is busy."""
    server, thread = start_http_server(port, addr=host)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
