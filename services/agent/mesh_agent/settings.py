"""The agent's settings, prefix `AGENT_`."""

from typing import Annotated, Any, Literal

from mesh_common.process.settings import GrpcSettings, MigrationSettings, Ratio, Seconds, settings_config
from pydantic import BaseModel, Field, HttpUrl, SecretStr, field_validator

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


class HttpToolSettings(BaseModel, frozen=True):
    """A tool behind an HTTP server of the operator's: see tools/http_tool.py for the call."""

    name: str = Field(pattern="^[a-zA-Z0-9_-]{1,64}$")
    """What models and entitlements call it."""
    description: str = Field(min_length=1, max_length=2_000)
    """What models are told of it."""
    url: HttpUrl
    """Where arguments are posted to."""
    parameters: dict[str, Any]
    """JSON Schema of the arguments, an object."""
    effect: Literal["none", "idempotent", "once"] = "once"
    """What calling it twice would do: nothing, nothing more when the Idempotency-Key is the same, or harm."""
    timeout_s: float = Field(default=10.0, gt=0.0, le=30.0)
    """How long one call may take."""
    api_key: SecretStr | None = None
    """Sent as a bearer token when given."""

    @field_validator("parameters")
    @classmethod
    def _is_an_object(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        if parameters.get("type") != "object" or not isinstance(parameters.get("properties"), dict):
            raise ValueError("must be a JSON Schema of type object with properties")
        return parameters


class AgentSettings(GrpcSettings):
    model_config = settings_config("AGENT_")

    models: tuple[ModelSettings, ...] = Field(min_length=1)
    """JSON list: the model registry, in fallback order."""
    http_tools: tuple[HttpToolSettings, ...] = ()
    """JSON list: tools beside the built-in ones."""
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
    """`host:port` under which other replicas and gateways reach this one (the pod's IP); the gRPC address when
    absent."""
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
    keep_events_s: float = Field(default=86_400.0, ge=60.0)
    """How long the events of an ended run can be replayed, and an Idempotency-Key gives the same thing again."""
    retention_interval_s: Seconds = 60.0
    """Pause between two looks for what has been kept long enough."""
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

    @field_validator("models", "http_tools")
    @classmethod
    def _names_are_unique[T: (ModelSettings, HttpToolSettings)](cls, entries: tuple[T, ...]) -> tuple[T, ...]:
        if len({entry.name for entry in entries}) != len(entries):
            raise ValueError("two of them have the same name")
        return entries


class AgentMigrationSettings(MigrationSettings):
    model_config = settings_config("AGENT_")
