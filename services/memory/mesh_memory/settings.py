"""The settings of memory, prefix `MEMORY_`."""

from mesh_common.jobs.settings import JobSettings
from mesh_common.process.settings import MigrationSettings, Seconds, settings_config
from pydantic import Field, SecretStr, field_validator


class MemorySettings(JobSettings):
    model_config = settings_config("MEMORY_")

    openai_base_url: str = "https://api.openai.com/v1"
    """OpenAI-compatible server of the model that extracts facts, with `/v1`."""
    openai_api_key: SecretStr | None = None
    """Key for this server; a local server needs none."""
    extraction_model: str = ""
    """Model that extracts facts from a turn. If empty, the user's messages are stored unchanged."""
    extraction_timeout_s: Seconds = 20.0
    """Time limit of one answer of that model."""
    extraction_tries: int = Field(default=3, ge=1, le=5)
    """Unusable answers of that model after which a turn is given up. While the model cannot be reached, turns wait and
    no try is counted."""
    extraction_concurrency: int = Field(default=4, ge=1, le=64)
    """Turns processed concurrently, each in its own thread."""
    embedding_base_url: str = "https://api.openai.com/v1"
    """OpenAI-compatible server of the embedding model, with `/v1`."""
    embedding_api_key: SecretStr | None = None
    """Key for this server; a local server needs none."""
    embedding_model: str = Field(default="text-embedding-3-small", min_length=1)
    """Embedding model. Memories embedded by another model are still listed, but are not recalled until they are
    rewritten."""
    embedding_dimensions: int = Field(default=1536, ge=1, le=16_000)
    """Length of its vectors; an answer with another length is rejected."""
    embedding_query_prefix: str = ""
    """Prepended to a query; multilingual-e5 needs `query: `, including the space."""
    embedding_passage_prefix: str = ""
    """Prepended to a fact; multilingual-e5 needs `passage: `, including the space."""
    embedding_timeout_s: Seconds = 10.0
    """Time limit of an embedding call, except in Recall."""
    recall_timeout_s: Seconds = 0.3
    """Time limit of Recall; the caller's deadline may be shorter."""
    recall_min_similarity: float = Field(default=0.3, ge=-1.0, le=1.0)
    """Minimum cosine similarity of a recalled memory. Depends on the embedding model: 0.82 for
    multilingual-e5-small."""
    duplicate_similarity: float = Field(default=0.98, ge=0.0, le=1.0)
    """Cosine similarity from which two facts that name the same numbers and codes count as duplicates.
    multilingual-e5-small gives 0.985 to 0.999 for the same fact in other words and at most 0.975 for facts that differ
    in more than a code."""
    max_memories_per_user: int = Field(default=10_000, ge=1)
    """Maximum number of memories per user. Further ones are rejected; further facts of a turn are dropped."""
    max_queued_turns_per_user: int = Field(default=1_000, ge=1)
    """Maximum number of pending turns per user."""

    @field_validator("openai_base_url", "embedding_base_url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return value.rstrip("/")


class MemoryMigrationSettings(MigrationSettings):
    model_config = settings_config("MEMORY_")
