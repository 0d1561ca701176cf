from mesh_common.jobs.settings import JobSettings
from mesh_common.process.settings import MigrationSettings, Seconds, settings_config
from pydantic import Field, SecretStr


class EvalSettings(JobSettings):
    """The settings of eval, prefix `EVAL_`."""

    model_config = settings_config("EVAL_")

    openai_base_url: str = Field(default="https://api.openai.com/v1", pattern=r"^https?://.+")
    """OpenAI-compatible server of the judge, with `/v1`."""
    openai_api_key: SecretStr | None = None
    """Key for this server; a local server needs none."""
    judge_model: str = Field(default="gpt-4o-mini", min_length=1)
    """The model that judges; it must support answers in a JSON schema."""
    judge_timeout_s: Seconds = 30.0
    """Time limit of one answer of the judge."""
    judge_max_tokens: int = Field(default=200, ge=50, le=4_000)
    """Maximum length of the judge's answer."""
    judge_max_reasoning_chars: int | None = Field(default=None, ge=0, le=4_000)
    """Maximum length of the reasoning in the schema. Very small models never stop without it; some providers do not
    support it. With 0 the judge gives the score alone, which costs less, and scores have no reasoning."""
    judge_max_input_bytes: int = Field(default=6_000, ge=500, le=1_000_000)
    """Maximum size of the run's texts (UTF-8) sent to the judge. The model's context must hold 700 bytes more."""
    judge_tries: int = Field(default=3, ge=1, le=10)
    """Attempts to get a valid answer from the judge before a score counts as failed."""
    runs_at_once: int = Field(default=2, ge=1, le=100)
    """Runs judged concurrently by one replica, each with one pending question."""
    run_timeout_s: Seconds = 180.0
    """Time limit for judging one run. If it is exceeded, the run is retried later."""
    max_queued_runs_per_user: int = Field(default=1_000, ge=1)
    """Maximum number of pending runs per user."""
    job_retry_days: float = Field(default=0.5, gt=0.0, le=15.0)
    """How long a run that cannot be judged is retried, in days; each try may cost. Then it is kept as a dead letter."""


class EvalMigrationSettings(MigrationSettings):
    model_config = settings_config("EVAL_")
