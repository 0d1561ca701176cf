"""The limits of the use cases, from the settings."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds, similarities as cosine."""

    recall_timeout_s: float
    embedding_timeout_s: float
    recall_min_similarity: float
    duplicate_similarity: float
    max_memories: int
    max_queued_turns: int
    max_extractions: int
    """Answers of the extraction model per turn."""
