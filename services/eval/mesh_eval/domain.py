"""The types of judged runs and judgements, and the parsing of a judge's answer."""

import re
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, Self
from uuid import UUID

from mesh_common.model_json import json_values

MAX_REASONING_CHARS = 4_000
# Some models quote it, mostly those that cannot be held to a schema.
_NUMBER = re.compile(r"[01](?:\.[0-9]+)?")


@dataclass(frozen=True, slots=True)
class ToolResult:
    tool: str
    arguments_json: str
    content: str


@dataclass(frozen=True, slots=True)
class JudgedRun:
    """The parts of one run that a judge may see. `model` is the one that answered."""

    id: UUID
    message: str
    answer: str
    memories: tuple[str, ...]
    tool_results: tuple[ToolResult, ...]
    model: str

    def as_payload(self) -> dict[str, Any]:
        """As JSON values, for the queue."""
        return asdict(self) | {"id": str(self.id)}

    @classmethod
    def from_payload(cls, payload: dict[str, Any]) -> Self:
        return cls(
            id=UUID(payload["id"]),
            message=payload["message"],
            answer=payload["answer"],
            memories=tuple(payload["memories"]),
            tool_results=tuple(ToolResult(**result) for result in payload["tool_results"]),
            model=payload["model"],
        )


class Part(StrEnum):
    """A part of a run, by its name in the judge's prompt."""

    MESSAGE = "MESSAGE"
    MEMORIES = "MEMORIES"
    TOOL_RESULTS = "TOOL RESULTS"
    ANSWER = "ANSWER"


@dataclass(frozen=True, slots=True)
class Metric:
    """One quality that is judged. `best` is the good end of 0..1."""

    name: str
    parts: tuple[Part, ...]
    best: Literal[0, 1]


@dataclass(frozen=True, slots=True)
class Judge:
    """A metric with its prompt; `prompt_hash` is the prompt's SHA-256, hex."""

    metric: Metric
    prompt: str
    prompt_hash: str


class ScoreStatus(StrEnum):
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Verdict:
    value: float
    reasoning: str


@dataclass(frozen=True, slots=True)
class Score:
    """A stored judgement. If the judge gave no valid answer, `value` is None and `reasoning` is empty."""

    name: str
    status: ScoreStatus
    value: float | None
    reasoning: str
    judge_model: str
    prompt_hash: str
    created_at: datetime
    trace_id: str | None


@dataclass(frozen=True, slots=True)
class RunScores:
    """Scores sorted by metric name. `is_pending`: the run is still queued for judging."""

    scores: tuple[Score, ...]
    is_pending: bool


class InvalidAnswer(Exception):
    """The judge's answer is not a verdict. It never leaves the service but becomes a failed score.

    `is_final`: a retry would fail too, because the provider rejects the request itself.
    """

    def __init__(self, why: str, *, is_final: bool = False) -> None:
        super().__init__(why)
        self.is_final = is_final


def parse_verdict(answer: str, *, has_reasoning: bool = True) -> Verdict:
    """The verdict in the first JSON object of an answer that has a score. `reasoning` is "" if none was requested.

    Raises: InvalidAnswer for prose, a score that is missing, not a number, NaN or outside 0..1, or missing reasoning.
    """
    fields = next((value for value in json_values(answer) if isinstance(value, dict) and "score" in value), None)
    if fields is None:
        raise InvalidAnswer("no JSON object with a score")
    reasoning = _reasoning(fields.get("reasoning")) if has_reasoning else ""
    return Verdict(_value(fields.get("score")), reasoning)


def _value(score: object) -> float:
    if isinstance(score, str) and _NUMBER.fullmatch(score):
        score = float(score)
    # A bool is an int in Python but not a number in JSON. The range also rejects 1e999, which parses as infinity.
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        raise InvalidAnswer("the score is not a number from 0 to 1")
    return float(score)


def _reasoning(reasoning: object) -> str:
    if not isinstance(reasoning, str) or not reasoning.strip():
        raise InvalidAnswer("the reasoning is missing")
    # JSON can encode what PostgreSQL cannot store: NUL and half of a surrogate pair.
    storable = reasoning.replace("\x00", "").encode("utf-8", "replace").decode()
    return storable.strip()[:MAX_REASONING_CHARS]
