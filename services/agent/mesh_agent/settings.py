"""The agent's settings, prefix `AGENT_`."""

from typing import Annotated

from mesh_common.settings import GrpcSettings, MigrationSettings, Ratio, Seconds, settings_config
from pydantic import BaseModel, Field, SecretStr, field_validator

Capability = Annotated[str, Field(pattern="^(tools|json_schema|extraction)$")]


class ModelSettings(BaseModel, frozen=True):
    """One entry of the model registry."""

    name: str = Field(min_length=1, max_length=100)
    """What callers and metrics call it."""
    provider_model: str = Field(min_length=1, max_length=200)
    """What the provider calls it."""
    context_tokens: int = Field(ge=512)
    """Tokens of input and output together."""
    max_output_tokens: int = Field(default=1_024, ge=1)
    """Tokens of one answer at most."""
    capabilities: tuple[Capability, ...] = ()
    """Of `tools`, `json_schema`, `extraction`."""
    input_usd_per_mtok: float = Field(default=0.0, ge=0.0)
    """US dollars a million tokens read."""
    output_usd_per_mtok: float = Field(default=0.0, ge=0.0)
    """US dollars a million tokens written."""
    base_url: str | None = None
    """OpenAI-compatible API of this model, with `/v1`; AGENT_OPENAI_BASE_URL when absent."""
    api_key: SecretStr | None = None
    """Key for it; AGENT_OPENAI_API_KEY when absent."""


class AgentSettings(GrpcSettings):
    model_config = settings_config("AGENT_")

    models: tuple[ModelSettings, ...] = Field(min_length=1)
    """JSON list: the model registry, in fallback order."""
    openai_base_url: str = "https://api.openai.com/v1"
    """OpenAI-compatible API for models that name none."""
    openai_api_key: SecretStr | None = None
    """Key for it; local servers need none."""
    model_connect_timeout_s: Seconds = 5.0
    """How long connecting to a provider may take."""
    model_read_timeout_s: Seconds = 30.0
    """How long a provider may be silent, before the first token and between tokens."""
    auth_target: str = "dns:///auth:50051"
    """gRPC target of auth."""
    memory_target: str = "dns:///memory:50051"
    """gRPC target of memory."""
    eval_target: str = "dns:///eval:50051"
    """gRPC target of eval."""
    advertised_address: str | None = None
    """`host:port` under which other replicas reach this one (the pod's IP); the gRPC address when absent."""
    max_runs: int = Field(default=200, ge=1, le=5_000)
    """Runs this replica executes at once; more wait as pending."""
    max_pending_runs: int = Field(default=5_000, ge=1)
    """Pending runs of all users and replicas; more are refused with Retry-After. Replicas hear of each other's by a
    count every 5 s, so it may be passed by what they take in between two counts."""
    max_pending_runs_per_user: int = Field(default=50, ge=1)
    """Pending runs of one user; more are refused with Retry-After."""
    lease_ttl_s: float = Field(default=6.0, ge=1.0, le=60.0)
    """How long a replica owns a thread without a heartbeat; another takes over after it."""
    run_timeout_s: Seconds = 600.0
    """How long one attempt may take."""
    recall_timeout_s: Seconds = 0.3
    """What recalling memories may cost a run; after it the answer comes without."""
    history_tokens: int = Field(default=2_000, ge=0)
    """History given to a model, unless the user's entitlements say otherwise."""
    default_context_tokens: int | None = None
    """History budget of users while auth cannot be asked; `history_tokens` when absent."""
    remember_delay_s: float = Field(default=1.0, ge=0.0, le=60.0)
    """How long a thread must be quiet before memory is told of it (debounce)."""
    eval_sample_ratio: Ratio = 0.1
    """Part of the succeeded runs that is judged."""

    @field_validator("models")
    @classmethod
    def _names_are_unique(cls, models: tuple[ModelSettings, ...]) -> tuple[ModelSettings, ...]:
        if len({model.name for model in models}) != len(models):
            raise ValueError("two models have the same name")
        return models


class AgentMigrationSettings(MigrationSettings):
    model_config = settings_config("AGENT_")
