"""The agent's settings, prefix `AGENT_`."""

from pathlib import Path
from typing import Any, Literal, Self

from mesh_common.jobs.settings import JobSettings
from mesh_common.process.settings import MigrationSettings, Ratio, Seconds, settings_config
from pydantic import BaseModel, Field, HttpUrl, SecretStr, field_validator, model_validator

from mesh_agent.domain.runs import MAX_ANSWER_BYTES
from mesh_agent.model_settings import ModelSettings
from mesh_agent.tool_server_settings import SEPARATOR, McpServerSettings, OpenApiSettings
from mesh_agent.web_settings import WebSettings


class HttpToolSettings(BaseModel, frozen=True):
    """A tool on an HTTP server of the operator. tools/http_tool.py describes the call."""

    name: str = Field(pattern="^[a-zA-Z0-9_-]{1,64}$")
    """Name used by models and entitlements."""
    description: str = Field(min_length=1, max_length=2_000)
    """Description sent to models."""
    url: HttpUrl
    """URL to which the arguments are posted."""
    parameters: dict[str, Any]
    """JSON Schema of the arguments, of type object."""
    effect: Literal["none", "idempotent", "once"] = "once"
    """Effect of a second call: `none`, `idempotent` (none if the Idempotency-Key is the same) or `once` (harm)."""
    approval: Literal["never", "always", "on_effect"] = "never"
    """Calls that a person must approve first: `never`, `always`, or `on_effect` (unless the effect is `none`)."""
    timeout_s: float = Field(default=10.0, gt=0.0, le=30.0)
    """Time limit of one call."""
    api_key: SecretStr | None = None
    """Sent as a bearer token if set."""

    @field_validator("parameters")
    @classmethod
    def _is_an_object(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        if parameters.get("type") != "object" or not isinstance(parameters.get("properties"), dict):
            raise ValueError("must be a JSON Schema of type object with properties")
        return parameters


class AgentSettings(WebSettings, JobSettings):
    model_config = settings_config("AGENT_")

    models: tuple[ModelSettings, ...] = Field(min_length=1)
    """JSON list: the model registry, in fallback order."""
    http_tools: tuple[HttpToolSettings, ...] = ()
    """JSON list: tools in addition to the built-in ones."""
    mcp_servers: tuple[McpServerSettings, ...] = Field(default=(), max_length=32)
    """JSON list: MCP servers whose tools the agent has (docs/tools.md)."""
    openapi: tuple[OpenApiSettings, ...] = Field(default=(), max_length=32)
    """JSON list: HTTP APIs whose operations become tools, by their OpenAPI documents (docs/tools.md)."""
    assistants_dir: Path | None = None
    """Folder of YAML files, one assistant each (docs/assistants.md); a change is used without a restart."""
    max_assistants_per_user: int = Field(default=100, ge=0, le=10_000)
    """Assistants that one user may make by the API."""
    ask_user: bool = False
    """Whether models have the tool `ask_user`, which interrupts the run until its user answers."""
    memory_tools: bool = False
    """Whether models have the tools `remember`, `search_memory` and `forget` for the user's long-term memory."""
    interrupt_ttl_s: float = Field(default=604_800.0, ge=60.0, le=31_536_000.0)
    """How long an interrupted run waits for decisions. Then what it asks is rejected."""
    openai_base_url: str = "https://api.openai.com/v1"
    """OpenAI-compatible API for models that set none."""
    openai_api_key: SecretStr | None = None
    """Key for this API; a local server needs none."""
    model_connect_timeout_s: Seconds = 5.0
    """Timeout for connecting to a provider."""
    model_read_timeout_s: Seconds = 30.0
    """How long a provider may send nothing after the first token."""
    auth_target: str = "dns:///auth:50051"
    """gRPC target of auth."""
    memory_target: str = "dns:///memory:50051"
    """gRPC target of memory."""
    eval_target: str = "dns:///eval:50051"
    """gRPC target of eval."""
    advertised_address: str | None = None
    """`host:port` at which gateways and other replicas reach this one (the pod's IP); the gRPC address if absent."""
    max_runs: int = Field(default=200, ge=1, le=5_000)
    """Runs that this replica executes concurrently; further ones stay pending."""
    max_pending_runs: int = Field(default=5_000, ge=1)
    """Pending runs of all users and replicas; further ones are rejected with Retry-After. Replicas count them every
    5 s, so the limit may be exceeded by the runs that other replicas accept between two counts."""
    max_pending_runs_per_user: int = Field(default=50, ge=1)
    """Pending runs of one user; further ones are rejected with Retry-After."""
    lease_ttl_s: float = Field(default=6.0, ge=1.0, le=60.0)
    """How long a replica owns a thread without a heartbeat. Then another replica takes over."""
    run_timeout_s: Seconds = 600.0
    """Time limit of one attempt."""
    max_answer_bytes: int = Field(default=MAX_ANSWER_BYTES, ge=1_024, le=1_048_576)
    """Longest answer of a run in UTF-8. A longer one is cut there and ends with the finish reason `length`."""
    keep_events_s: float = Field(default=86_400.0, ge=60.0)
    """How long the events of an ended run can be replayed and an Idempotency-Key returns the same result."""
    retention_interval_s: Seconds = 60.0
    """Interval between deletions of expired data."""
    recall_timeout_s: Seconds = 0.3
    """Time limit for recalling memories. If it is exceeded, the run continues without them."""
    history_tokens: int = Field(default=2_000, ge=0)
    """Tokens of history sent to a model, unless the user's entitlements set another limit."""
    default_models: tuple[str, ...] | None = None
    """JSON list of models that users may use while auth is unavailable and their entitlements are not known (never
    fetched, or an hour old). The first of `models` if unset; none if empty."""
    default_tools: tuple[str, ...] = ()
    """JSON list of tools that users may use then."""
    default_context_tokens: int | None = None
    """Tokens of history while auth is unavailable; `history_tokens` if absent."""
    remember_delay_s: float = Field(default=1.0, ge=0.0, le=60.0)
    """How long a thread must be idle before its turns are sent to memory (debounce)."""
    eval_sample_ratio: Ratio = 0.1
    """Fraction of the succeeded runs that is judged."""

    @field_validator("models", "http_tools")
    @classmethod
    def _names_are_unique[T: (ModelSettings, HttpToolSettings)](cls, entries: tuple[T, ...]) -> tuple[T, ...]:
        if len({entry.name for entry in entries}) != len(entries):
            raise ValueError("two entries have the same name")
        return entries

    @property
    def tool_servers(self) -> tuple[str, ...]:
        """Names of the servers that describe their tools themselves."""
        return tuple(server.name for server in (*self.mcp_servers, *self.openapi))

    @model_validator(mode="after")
    def _names_of_servers_and_their_tools_are_free(self) -> Self:
        if len(set(self.tool_servers)) != len(self.tool_servers):
            raise ValueError("mcp_servers, openapi: two entries have the same name")
        for tool in self.http_tools:
            server, separator, _ = tool.name.partition(SEPARATOR)
            if separator and server in self.tool_servers:
                raise ValueError(f"http_tools: the name {tool.name!r} belongs to the server {server!r}")
        return self


class AgentMigrationSettings(MigrationSettings):
    model_config = settings_config("AGENT_")
