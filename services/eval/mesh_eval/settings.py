from mesh_common.process.settings import GrpcSettings, MigrationSettings, Seconds, settings_config
from pydantic import Field, SecretStr


class EvalSettings(GrpcSettings):
    """What eval is told, prefix `EVAL_`."""

    model_config = settings_config("EVAL_")

    openai_base_url: str = Field(default="https://api.openai.com/v1", pattern=r"^https?://.+")
    """OpenAI-compatible server of the judge, with `/v1`."""
    openai_api_key: SecretStr | None = None
    """Its key; a local server needs none."""
    judge_model: str = Field(default="gpt-4o-mini", min_length=1)
    """The model that judges; it must be able to answer by a JSON schema."""
    judge_timeout_s: Seconds = 30.0
    """How long one answer of the judge may take."""
    judge_max_tokens: int = Field(default=200, ge=50, le=4_000)
    """Longest answer of the judge."""
    judge_max_reasoning_chars: int | None = Field(default=None, ge=0, le=4_000)
    """Bound of the reasoning in the schema: a very small model never ends without; not every provider takes it. With
    0 the judge gives the score alone, which is cheaper, and scores have no reasoning."""
    judge_max_input_bytes: int = Field(default=6_000, ge=500, le=1_000_000)
    """How much of a run's texts (UTF-8) the judge is shown; must fit into the model's context with 700 bytes more."""
    judge_tries: int = Field(default=3, ge=1, le=10)
    """How often the judge is asked for a valid answer before a score counts as failed."""
    runs_at_once: int = Field(default=2, ge=1, le=100)
    """Runs judged at once by one replica; each has one question under way."""
    run_timeout_s: Seconds = 180.0
    """How long judging one run may take before it is tried again later."""
    max_queued_runs_per_user: int = Field(default=1_000, ge=1)
    """Runs of one user that may wait to be judged."""


class EvalMigrationSettings(MigrationSettings):
    """What `migrate` is told, prefix `EVAL_`."""

    model_config = settings_config("EVAL_")
