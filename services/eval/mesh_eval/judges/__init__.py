"""The metrics, each in its own file, next to its prompt in Markdown."""

import hashlib
from pathlib import Path

from mesh_eval.domain import Judge, Metric
from mesh_eval.judges.conciseness import CONCISENESS
from mesh_eval.judges.hallucination import HALLUCINATION
from mesh_eval.judges.helpfulness import HELPFULNESS
from mesh_eval.judges.relevancy import RELEVANCY
from mesh_eval.judges.toxicity import TOXICITY

METRICS = (HALLUCINATION, TOXICITY, RELEVANCY, HELPFULNESS, CONCISENESS)

_FOLDER = Path(__file__).parent


def load_judges() -> tuple[Judge, ...]:
    """Reads the prompts: each metric's own, followed by the shared `rules.md`."""
    rules = (_FOLDER / "rules.md").read_text("utf-8")
    return tuple(_judge(metric, rules) for metric in METRICS)


def _judge(metric: Metric, rules: str) -> Judge:
    own = (_FOLDER / f"{metric.name}.md").read_text("utf-8")
    prompt = f"{own.strip()}\n\n{rules.strip()}\n"
    return Judge(metric, prompt, hashlib.sha256(prompt.encode()).hexdigest())
