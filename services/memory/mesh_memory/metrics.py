"""What memory counts; the queue's figures come from mesh_common."""

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
    "Time of one call to the embedding server, of Recall or another: what Recall takes besides is the search.",
    ("outcome",),
    buckets=LATENCY_BUCKETS_S,
)
KEPT = Counter("mesh_memory_memories_kept_total", "Memories kept, by origin.", ("origin",))
SKIPPED = Counter("mesh_memory_facts_skipped_total", "Facts of a turn that were not kept, by reason.", ("reason",))
EXTRACTION_SECONDS = Histogram(
    "mesh_memory_extraction_duration_seconds",
    "Time of extracting facts from one turn, retries included.",
    ("outcome",),
    buckets=LATENCY_BUCKETS_S,
)
