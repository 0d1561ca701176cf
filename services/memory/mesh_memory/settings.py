"""What memory is told, prefix `MEMORY_`."""

from mesh_common.process.settings import GrpcSettings, MigrationSettings, Seconds, settings_config
from pydantic import Field, SecretStr, field_validator


class MemorySettings(GrpcSettings):
    model_config = settings_config("MEMORY_")

    openai_base_url: str = "https://api.openai.com/v1"
    """OpenAI-compatible server of the model that extracts facts, with `/v1`."""
    openai_api_key: SecretStr | None = None
    """Its key; a local server needs none."""
    extraction_model: str = ""
    """Model that extracts facts from a turn; empty: none can, and what the user said is kept as it is."""
    extraction_timeout_s: Seconds = 20.0
    """Longest wait for one answer of that model."""
    extraction_tries: int = Field(default=2, ge=1, le=5)
    """Tries within one attempt at a turn; a turn that fails comes back later by itself."""
    extraction_concurrency: int = Field(default=4, ge=1, le=64)
    """Turns worked on at once, each in a thread."""
    embedding_base_url: str = "https://api.openai.com/v1"
    """OpenAI-compatible server of the embedding model, with `/v1`."""
    embedding_api_key: SecretStr | None = None
    """Its key; a local server needs none."""
    embedding_model: str = Field(default="text-embedding-3-small", min_length=1)
    """Embedding model. Memories of another model stay listed, but are found again only when they are rewritten."""
    embedding_dimensions: int = Field(default=1536, ge=1, le=16_000)
    """Length of its vectors; an answer with another length is refused."""
    embedding_query_prefix: str = ""
    """Put before a query; multilingual-e5 needs `query: ` (with the space)."""
    embedding_passage_prefix: str = ""
    """Put before a fact; multilingual-e5 needs `passage: ` (with the space)."""
    embedding_timeout_s: Seconds = 10.0
    """Longest wait for vectors, except in Recall."""
    recall_timeout_s: Seconds = 0.3
    """Longest a Recall takes; the caller's deadline may be shorter."""
    recall_min_similarity: float = Field(default=0.3, ge=-1.0, le=1.0)
    """Least cosine similarity that is recalled. Depends on the embedding model: 0.82 for multilingual-e5-small."""
    duplicate_similarity: float = Field(default=0.98, ge=0.0, le=1.0)
    """Two facts as near as this that name the same numbers and codes are one. multilingual-e5-small gives 0.985 to
    0.999 to the same fact in other words and at most 0.975 to facts that differ in more than a code."""
    max_memories_per_user: int = Field(default=10_000, ge=1)
    """More are refused; facts of a turn beyond it are not kept."""
    max_queued_turns_per_user: int = Field(default=1_000, ge=1)
    """Turns of one user that may wait to be remembered."""

    @field_validator("openai_base_url", "embedding_base_url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return value.rstrip("/")


class MemoryMigrationSettings(MigrationSettings):
    model_config = settings_config("MEMORY_")
