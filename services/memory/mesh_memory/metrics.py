"""The metrics of memory. Those of its queue are in mesh_common."""

from mesh_common.process.metrics import LATENCY_BUCKETS_S
from prometheus_client import Counter, Histogram

RECALL_SECONDS = Histogram(
    "mesh_memory_recall_duration_seconds",
    "Time of Recall: embedding and search.",
    ("outcome",),
    buckets=LATENCY_BUCKETS_S,
)
EMBEDDING_SECONDS = Histogram(
    "mesh_memory_embedding_duration_seconds",
    "Time of one call to the embedding server, for Recall and other calls. The rest of Recall's time is the search.",
    ("outcome",),
    buckets=LATENCY_BUCKETS_S,
)
KEPT = Counter("mesh_memory_memories_kept_total", "Memories stored, by origin.", ("origin",))
SKIPPED = Counter("mesh_memory_facts_skipped_total", "Facts of a turn that were not stored, by reason.", ("reason",))
FORGOTTEN = Counter(
    "mesh_memory_runs_forgotten_total",
    "Runs that were not stored because of a deletion, by where they were caught: on arrival, or after extraction.",
    ("stage",),
)
GIVEN_UP = Counter(
    "mesh_memory_turns_given_up_total", "Turns for which the extraction model gave no readable answer in all its tries."
)
EXTRACTION_SECONDS = Histogram(
    "mesh_memory_extraction_duration_seconds",
    "Time of one call of the extraction model.",
    ("outcome",),
    buckets=LATENCY_BUCKETS_S,
)
