"""Metrics of auth."""

from mesh_common.process.metrics import LATENCY_BUCKETS_S
from prometheus_client import Counter, Gauge, Histogram

REGISTRATIONS = Counter("mesh_auth_registrations_total", "Registrations, by outcome.", ("outcome",))
LOGINS = Counter("mesh_auth_logins_total", "Logins with e-mail and password, by outcome.", ("outcome",))
LOGINS_WAITING = Gauge("mesh_auth_logins_waiting", "Logins that wait for others of the same account.")
REFRESHES = Counter("mesh_auth_refreshes_total", "Refresh tokens presented, by outcome.", ("outcome",))
REVOCATIONS = Counter("mesh_auth_revocations_total", "Sessions revoked, by reason.", ("reason",))
HASH_JOBS = Gauge("mesh_auth_hash_pool_jobs", "Passwords being hashed or waiting to be.")
HASH_SECONDS = Histogram(
    "mesh_auth_hash_duration_seconds", "Time to hash a password, including the wait.", buckets=LATENCY_BUCKETS_S
)
HASH_REFUSALS = Counter("mesh_auth_hash_refusals_total", "Passwords rejected unhashed, by reason.", ("reason",))
PRUNED = Counter("mesh_auth_pruned_rows_total", "Expired rows deleted.")
