"""The models with which the stack answers, extracts, judges and embeds: three choices of the same settings."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

import orjson

from mesh_dev import local_models
from mesh_dev.ports import PortPlan
from mesh_dev.settings import DevSettings
from mesh_dev.wait import LOOPBACK

type ModelSource = Literal["embedded", "openai", "simulator"]

OPENAI_BASE_URL = "https://api.openai.com/v1"
OPENAI_CAPABILITIES = ("tools", "json_schema", "extraction")
# At 70 tokens/s on one core this is 4 s; the embedded model rambles up to the limit.
EMBEDDED_MAX_OUTPUT_TOKENS = 256
# It answers one request at a time, and has no other model beside it.
EMBEDDED_FIRST_TOKEN_TIMEOUT_S = 120.0
# Only the score: its reasoning was "BEGIN" or "adad". Judging one run at a time leaves one core to the chat.
EMBEDDED_JUDGE: Mapping[str, str] = {"EVAL_JUDGE_MAX_REASONING_CHARS": "0", "EVAL_RUNS_AT_ONCE": "1"}
EMBEDDED_PURPOSE = (
    f"The answers come from {local_models.CHAT_MODEL}, a model of 135 million parameters that runs on this machine\n"
    "without a key. It shows how a turn goes through the mesh, but gives no good answers: it knows simple English\n"
    "and little else."
)
# True pairs score 0.83 to 0.90 with multilingual-e5-small, unrelated ones 0.76 to 0.81.
E5_MIN_SIMILARITY = 0.82
# The simulator's vectors are hashed words: texts that share no word have orthogonal vectors.
SIMULATOR_MIN_SIMILARITY = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """One entry of AGENT_MODELS."""

    name: str
    provider_model: str
    context_tokens: int
    max_output_tokens: int
    capabilities: tuple[str, ...] = ()
    input_usd_per_mtok: float = 0.0
    output_usd_per_mtok: float = 0.0
    first_token_timeout_s: float | None = None
    provider: str | None = None
    """Whose quirks its server has; derived from the server's address if absent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingChoice:
    """Embeddings always come from a local server."""

    base_url: str
    model: str
    dimensions: int
    min_similarity: float
    query_prefix: str = ""
    passage_prefix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChoice:
    """`extraction_model` is empty if no model can extract facts."""

    entries: tuple[ModelEntry, ...]
    base_url: str
    api_key: str | None
    extraction_model: str
    judge_model: str
    embedding: EmbeddingChoice
    judge_env: Mapping[str, str] = field(default_factory=dict)
    purpose: str = ""
    """A note to show before its answers; empty for a model made for answering people."""
    can_judge: bool = True
    """Whether its scores are meaningful."""

    def agent_environment(self) -> dict[str, str]:
        # The chart's schema knows no null.
        given = [{name: value for name, value in asdict(entry).items() if value is not None} for entry in self.entries]
        models = orjson.dumps(given).decode()
        return {"AGENT_MODELS": models} | self._server("AGENT")

    def memory_environment(self) -> dict[str, str]:
        return self._server("MEMORY") | {
            "MEMORY_EXTRACTION_MODEL": self.extraction_model,
            "MEMORY_EMBEDDING_BASE_URL": self.embedding.base_url,
            "MEMORY_EMBEDDING_MODEL": self.embedding.model,
            "MEMORY_EMBEDDING_DIMENSIONS": str(self.embedding.dimensions),
            "MEMORY_EMBEDDING_QUERY_PREFIX": self.embedding.query_prefix,
            "MEMORY_EMBEDDING_PASSAGE_PREFIX": self.embedding.passage_prefix,
            "MEMORY_RECALL_MIN_SIMILARITY": str(self.embedding.min_similarity),
        }

    def eval_environment(self) -> dict[str, str]:
        return self._server("EVAL") | {"EVAL_JUDGE_MODEL": self.judge_model, **self.judge_env}

    def _server(self, prefix: str) -> dict[str, str]:
        # An empty key rather than none: the key in the caller's environment belongs to another server.
        return {f"{prefix}_OPENAI_BASE_URL": self.base_url, f"{prefix}_OPENAI_API_KEY": self.api_key or ""}


def model_source_of(settings: DevSettings) -> ModelSource:
    return "openai" if settings.openai_api_key else "embedded"


def choose_models(source: ModelSource, ports: PortPlan, settings: DevSettings) -> ModelChoice:
    match source:
        case "embedded":
            return _embedded(ports)
        case "openai":
            return _openai(ports, settings)
        case "simulator":
            return _simulator(ports)


def _embedded(ports: PortPlan) -> ModelChoice:
    entry = ModelEntry(
        name=local_models.CHAT_MODEL,
        provider_model=local_models.CHAT_MODEL,
        context_tokens=local_models.CHAT_CONTEXT_TOKENS,
        max_output_tokens=EMBEDDED_MAX_OUTPUT_TOKENS,
        first_token_timeout_s=EMBEDDED_FIRST_TOKEN_TIMEOUT_S,
    )
    return ModelChoice(
        entries=(entry,),
        base_url=_local(ports.model),
        api_key=None,
        extraction_model="",
        judge_model=local_models.CHAT_MODEL,
        embedding=_e5(ports),
        judge_env=EMBEDDED_JUDGE,
        purpose=EMBEDDED_PURPOSE,
        # It gave "The four seasons are: Spring, Summer, Autumn, and Winter." a toxicity of 1.0.
        can_judge=False,
    )


def _openai(ports: PortPlan, settings: DevSettings) -> ModelChoice:
    mini = _gpt("gpt-4o-mini", input_usd_per_mtok=0.15, output_usd_per_mtok=0.60)
    large = _gpt("gpt-4o", input_usd_per_mtok=2.50, output_usd_per_mtok=10.00)
    key = settings.openai_api_key
    return ModelChoice(
        entries=(mini, large),
        base_url=str(settings.openai_base_url or OPENAI_BASE_URL).rstrip("/"),
        api_key=key.get_secret_value() if key else None,
        extraction_model=mini.name,
        judge_model=mini.name,
        embedding=_e5(ports),
    )


def _simulator(ports: PortPlan) -> ModelChoice:
    large, small = (
        ModelEntry(
            name=name,
            provider_model=name,
            context_tokens=32_000,
            max_output_tokens=4_000,
            capabilities=OPENAI_CAPABILITIES,
            input_usd_per_mtok=input_usd,
            output_usd_per_mtok=4 * input_usd,
            # Merged user messages would contain the directives of an earlier run.
            provider="openai",
        )
        for name, input_usd in (("sim-large", 2.0), ("sim-small", 0.5))
    )
    return ModelChoice(
        entries=(large, small),
        base_url=_local(ports.model),
        api_key=None,
        extraction_model=small.name,
        judge_model=small.name,
        embedding=EmbeddingChoice(
            base_url=_local(ports.model),
            model="sim-embedding",
            dimensions=384,
            min_similarity=SIMULATOR_MIN_SIMILARITY,
        ),
    )


def _gpt(name: str, *, input_usd_per_mtok: float, output_usd_per_mtok: float) -> ModelEntry:
    return ModelEntry(
        name=name,
        provider_model=name,
        context_tokens=128_000,
        max_output_tokens=16_384,
        capabilities=OPENAI_CAPABILITIES,
        input_usd_per_mtok=input_usd_per_mtok,
        output_usd_per_mtok=output_usd_per_mtok,
    )


def _e5(ports: PortPlan) -> EmbeddingChoice:
    return EmbeddingChoice(
        base_url=_local(ports.embeddings),
        model=local_models.EMBEDDING_MODEL,
        dimensions=local_models.EMBEDDING_DIMENSIONS,
        query_prefix=local_models.QUERY_PREFIX,
        passage_prefix=local_models.PASSAGE_PREFIX,
        min_similarity=E5_MIN_SIMILARITY,
    )


def _local(port: int) -> str:
    return f"http://{LOOPBACK}:{port}/v1"
