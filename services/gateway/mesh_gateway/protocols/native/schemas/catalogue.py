"""Models, usage and scores."""

from datetime import datetime

from pydantic import Field

from mesh_gateway.domain import ScoreStatus
from mesh_gateway.protocols.native.schemas.common import Answer


class Model(Answer):
    name: str = Field(examples=["gpt-4o-mini"])
    context_tokens: int = Field(examples=[128_000])
    capabilities: list[str] = Field(examples=[["tools", "json_schema", "extraction"]])
    input_usd_per_mtok: float = Field(description="USD per million tokens read.", examples=[0.15])
    output_usd_per_mtok: float = Field(description="USD per million tokens written.", examples=[0.6])


class Models(Answer):
    items: list[Model] = Field(description="In fallback order.")


class ModelUsage(Answer):
    model: str
    runs: int
    input_tokens: int
    output_tokens: int
    cost_usd: float


class MonthUsage(Answer):
    month: str = Field(examples=["2026-11"])
    items: list[ModelUsage] = Field(description="One per model, ordered by name.")


class Score(Answer):
    name: str = Field(examples=["relevancy"])
    status: ScoreStatus
    value: float | None = Field(default=None, description="0..1; 0 is best for hallucination and toxicity, else 1.")
    reasoning: str
    judge_model: str
    prompt_hash: str
    created_at: datetime


class Scores(Answer):
    items: list[Score] = Field(description="By name.")
    is_pending: bool = Field(description="Whether the run is still queued for judging.")
