from mesh_common.process.metrics import LATENCY_BUCKETS_S
from prometheus_client import Counter, Histogram

SCORES = Counter("mesh_eval_scores_total", "Scores stored.", ("metric", "status"))
INVALID_ANSWERS = Counter(
    "mesh_eval_invalid_answers_total", "Answers of the judge that are no valid verdict.", ("metric",)
)
JUDGE_SECONDS = Histogram(
    "mesh_eval_judge_duration_seconds",
    "Time to judge one metric of one run, including retries.",
    ("metric",),
    buckets=LATENCY_BUCKETS_S,
)
