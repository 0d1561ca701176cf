"""One entry of the model registry as the setting `AGENT_MODELS` has it."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from mesh_common.process.settings import Seconds
from pydantic import BaseModel, Field, SecretStr, field_validator

Capability = Annotated[str, Field(pattern="^(tools|json_schema|extraction)$")]
Provider = Literal[
    "openai",
    "azure",
    "anthropic",
    "gemini",
    "mistral",
    "deepseek",
    "openrouter",
    "vllm",
    "llama_cpp",
    "ollama",
    "other",
]
OutputLimit = Literal["max_tokens", "max_completion_tokens", "none"]
InstructionsRole = Literal["system", "developer", "user"]
ReasoningField = Literal["reasoning_content", "reasoning", "reasoning_details", "extra_content"]
CallIds = Literal["any", "at_most_40", "nine_alphanumerics"]
EmptyContent = Literal["none", "empty", "absent"]

# RFC 9110, section 5.6.2: the characters of a header's name.
_HeaderName = Annotated[str, Field(pattern="^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$")]
_HeaderValue = Annotated[str, Field(pattern="^[\\x20-\\x7e]{0,1000}$")]
# The agent itself sets these. Credentials belong into `api_key`, which is never shown.
_OWN_HEADERS: Final = frozenset(
    {"accept", "authorization", "connection", "content-length", "content-type", "host", "transfer-encoding"}
)
_OWN_FIELDS: Final = frozenset(
    {"max_completion_tokens", "max_tokens", "messages", "model", "stream", "stream_options", "tools"}
)


class QuirkSettings(BaseModel, frozen=True, extra="forbid"):
    """How this model's server differs from others. What is absent comes from the preset of `provider`."""

    output_limit: OutputLimit | None = None
    """Name of the parameter that limits the answer. `none` for servers that take neither."""
    stream_options: bool | None = None
    """Whether to ask for usage at the end of a stream."""
    instructions_role: InstructionsRole | None = None
    """Role of the instructions. `user` for models that know neither of the others."""
    alternate_roles: bool | None = None
    """Whether roles must alternate: successive messages of one role are merged, instructions come first, and an answer
    is put between a tool's result and a message of the user."""
    reasoning_fields: tuple[ReasoningField, ...] | None = None
    """Fields that go back to the model with the message that contained them. `extra_content` belongs to tool calls."""
    reasoning_placeholders: bool | None = None
    """Whether an answer that called tools gets a placeholder if it lacks the `reasoning_content` or the thought
    signature that this server requires, because another model wrote it."""
    parallel_tool_calls: bool | None = None
    """Whether the model may call several tools in one answer."""
    call_ids: CallIds | None = None
    """Form of the ids of tool calls. Ids of another form are replaced."""
    empty_content: EmptyContent | None = None
    """Content of an answer that only calls tools: null (`none`), an empty text or no field."""
    extra_headers: dict[_HeaderName, _HeaderValue] | None = None
    """Further headers of each request. They are not secret: they appear in configuration dumps."""
    extra_body: dict[str, Any] | None = None
    """Further fields of each request."""

    @field_validator("extra_headers")
    @classmethod
    def _are_not_our_own(cls, headers: dict[str, str] | None) -> dict[str, str] | None:
        return _without(headers, _OWN_HEADERS, str.lower)

    @field_validator("extra_body")
    @classmethod
    def _are_not_our_fields(cls, body: dict[str, Any] | None) -> dict[str, Any] | None:
        return _without(body, _OWN_FIELDS, str)

    def given(self) -> Mapping[str, Any]:
        """The quirks that the entry sets itself."""
        return {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}


class ModelSettings(BaseModel, frozen=True):
    """One entry of the model registry."""

    name: str = Field(min_length=1, max_length=100)
    """Name used by callers and in metrics."""
    provider_model: str = Field(min_length=1, max_length=200)
    """Name used by the provider."""
    context_tokens: int = Field(ge=512)
    """Context size: input and output tokens together."""
    max_output_tokens: int = Field(default=1_024, ge=1)
    """Maximum length of one answer, in tokens."""
    capabilities: tuple[Capability, ...] = ()
    """Any of `tools`, `json_schema`, `extraction`."""
    input_usd_per_mtok: float = Field(default=0.0, ge=0.0)
    """US dollars per million input tokens."""
    output_usd_per_mtok: float = Field(default=0.0, ge=0.0)
    """US dollars per million output tokens."""
    base_url: str | None = None
    """OpenAI-compatible API of this model, with `/v1`; AGENT_OPENAI_BASE_URL if absent."""
    api_key: SecretStr | None = None
    """Key for this API; AGENT_OPENAI_API_KEY if absent."""
    first_token_timeout_s: Seconds | None = None
    """How long it may take until its first token. Then the next model is called. 20 s if absent, or
    AGENT_MODEL_READ_TIMEOUT_S if that is shorter. Models that reason without showing it need minutes."""
    provider: Provider | None = None
    """Who serves the model, which decides its quirks (docs/models.md). Derived from the host of the API if absent;
    `other` if the host is unknown."""
    quirks: QuirkSettings = QuirkSettings()
    """Quirks that differ from the provider's preset."""


def _without(values: dict[str, Any] | None, own: frozenset[str], form: Any) -> dict[str, Any] | None:
    if taken := sorted(name for name in values or {} if form(name) in own):
        raise ValueError(f"must not contain {', '.join(taken)}: the agent sets them itself")
    return values
