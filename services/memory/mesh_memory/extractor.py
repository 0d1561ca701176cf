"""Extracts facts from a turn. The only module that imports mem0.

It runs mem0's own pipeline (`Memory.add`, with or without inference) with three parts replaced. The vector store is a
list, because our store writes and searches (docs/adr/0005). The SQLite history is empty, because replicas would
not share it. The model gets our short prompt, because mem0's costs 8,000 tokens per turn, and a JSON schema, because
mem0 treats an answer that it cannot parse as "no facts".
"""

import asyncio
import contextvars
import json
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

import openai
from mesh_common.errors import MeshError
from mesh_common.process.telemetry import tracer
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt

from mesh_memory import mem0_environment
from mesh_memory.domain import Message, Origin, own_statements, shortened, text_hash
from mesh_memory.extraction_errors import error_of, is_retryable, wait_s
from mesh_memory.metrics import EXTRACTION_SECONDS
from mesh_memory.settings import MemorySettings

# isort: split
# Below the split, because mem0 reads the environment at import.
from mem0.configs.base import MemoryConfig
from mem0.configs.llms.openai import OpenAIConfig
from mem0.exceptions import LLMError
from mem0.llms.openai import OpenAILLM
from mem0.memory.main import Memory as Mem0

__all__ = ["Mem0Extractor", "mem0_environment", "open_extractor"]

# mem0 requires an id; it does not need the user's real one.
_SCOPE: Final = {"user_id": "user"}
# About 8,000 tokens. Limits the cost of a turn, and fits the context of every model that can extract.
_MAX_TURN_CHARACTERS: Final = 32_000
_MAX_FACTS: Final = 20
# How long after the deadline a thread still waits for the event loop to enforce it.
_DEADLINE_MARGIN_S: Final = 5.0
_PROMPT: Final = resources.files("mesh_memory").joinpath("prompts/extract_facts.md")


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


_SCHEMA: Final = _object(memory={"type": "array", "items": _object(text={"type": "string"})})
_FORMAT: Final = {"type": "json_schema", "json_schema": {"name": "facts", "strict": True, "schema": _SCHEMA}}


class Mem0Extractor:
    """With a model: the facts it finds. Without: the user's messages minus questions (mem0 without inference)."""

    def __init__(self, llm: "_StrictLLM | None", executor: ThreadPoolExecutor, *, tries: int) -> None:
        self._llm = llm
        self._executor = executor
        self._tries = tries

    @property
    def origin(self) -> Origin:
        return Origin.EXTRACTED if self._llm else Origin.VERBATIM

    async def facts(self, messages: Sequence[Message], known: Sequence[str]) -> list[str]:
        """Raises Unavailable if the model gives no valid answer, InvalidInput if it permanently rejects the turn."""
        said = [message.content for message in messages if message.speaker == "user"]
        if self._llm is None:
            turns = [{"role": "user", "content": text} for text in own_statements(said)]
            return _tidied(await self._in_thread(_Pipeline(None, ()), turns)) if turns else []
        return _tidied(await self._observed(self._llm, _newest(messages), known)) if said else []

    async def _observed(self, llm: "_StrictLLM", turns: list[dict[str, str]], known: Sequence[str]) -> list[str]:
        started_s = time.perf_counter()
        outcome = "failed"
        with tracer.start_as_current_span(
            f"chat {llm.model}", kind=SpanKind.CLIENT, record_exception=False, set_status_on_exception=False
        ) as span:
            span.set_attributes(
                {
                    "gen_ai.operation.name": "chat",
                    "gen_ai.provider.name": "openai",
                    "gen_ai.request.model": llm.model,
                    "gen_ai.output.type": "json",
                }
            )
            try:
                texts = await self._retried(llm, turns, known)
                outcome = "done"
            except MeshError as error:
                span.set_status(Status(StatusCode.ERROR, error.reason))
                raise
            finally:
                EXTRACTION_SECONDS.labels(outcome).observe(time.perf_counter() - started_s)
            return texts

    async def _retried(self, llm: "_StrictLLM", turns: list[dict[str, str]], known: Sequence[str]) -> list[str]:
        retrying = AsyncRetrying(
            stop=stop_after_attempt(self._tries),
            wait=wait_s,
            retry=retry_if_exception(is_retryable),
            reraise=True,
        )
        texts: list[str] = []
        async for attempt in retrying:
            with attempt:
                texts = await self._in_thread(_Pipeline(llm, known), turns)
        return texts

    async def _in_thread(self, pipeline: "_Pipeline", turns: list[dict[str, str]]) -> list[str]:
        # With the current context, so that mem0's call belongs to the trace.
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._executor, context.run, pipeline.run, turns)
        except LLMError as error:
            raise error_of(error.__cause__) from error


@asynccontextmanager
async def open_extractor(settings: MemorySettings) -> AsyncIterator[Mem0Extractor]:
    """The extractor with its own threads, because mem0 blocks."""
    # mem0 logs users' texts with its errors, which are raised anyway.
    logging.getLogger("mem0").setLevel(logging.CRITICAL)
    executor = ThreadPoolExecutor(settings.extraction_concurrency, thread_name_prefix="mem0")
    llm = _StrictLLM(settings) if settings.extraction_model else None
    try:
        yield Mem0Extractor(llm, executor, tries=settings.extraction_tries)
    finally:
        if llm:
            await llm.close()
        executor.shutdown(wait=False, cancel_futures=True)


class _StrictLLM(OpenAILLM):  # type: ignore[misc]  # mem0 has no types
    """mem0's OpenAI model with our prompt and a JSON schema. An answer that does not match the schema is an error.

    mem0 calls it in a thread, but the request runs on the event loop, because only there can a deadline end it. A
    blocking client limits each single read: a server that trickles would block the thread, and thereby the end of the
    process, forever.
    """

    def __init__(self, settings: MemorySettings) -> None:
        self.model = settings.extraction_model
        self._timeout_s = settings.extraction_timeout_s
        self._loop = asyncio.get_running_loop()
        key = settings.openai_api_key
        self._client = openai.AsyncOpenAI(
            api_key=key.get_secret_value() if key else "none",
            base_url=settings.openai_base_url,
            timeout=self._timeout_s,
            max_retries=0,
        )
        super().__init__(OpenAIConfig(model=self.model, temperature=0.0, api_key=self._client.api_key))
        self._prompt = _PROMPT.read_text()
        # mem0's own client has no deadline and, if OPENROUTER_API_KEY is in the environment, uses another server.
        self.client.close()

    async def close(self) -> None:
        await self._client.close()

    def generate_response(self, messages: list[dict[str, str]], **_: Any) -> str:
        ours = [{"role": "system", "content": self._prompt}, *messages[1:]]
        answer = asyncio.run_coroutine_threadsafe(self._answer(ours), self._loop)
        return _checked(answer.result(self._timeout_s + _DEADLINE_MARGIN_S))

    async def _answer(self, messages: list[dict[str, str]]) -> object:
        # mem0 knows which models do not support a temperature.
        params = self._get_supported_params(messages=messages, response_format=_FORMAT)
        async with asyncio.timeout(self._timeout_s):
            completion = await self._client.chat.completions.create(model=self.model, **params)
        _note_usage(completion)
        return completion.choices[0].message.content


class _Pipeline(Mem0):  # type: ignore[misc]  # mem0 has no types
    """`Memory.add` of mem0 for one turn. Does not call mem0's constructor, which opens a vector store and SQLite."""

    def __init__(self, llm: _StrictLLM | None, known: Sequence[str]) -> None:
        self.config = MemoryConfig()
        self.llm = llm
        self.embedding_model = _NoVectors()
        self.vector_store = _Collector(known)
        self.db = _NoHistory()
        self.custom_instructions = None
        self.api_version = self.config.version
        self.collection_name = "none"
        # mem0 extracts entities only if spaCy is installed, and tolerates that they cannot be stored.
        self._entity_store = _NoHistory()

    def run(self, turns: list[dict[str, str]]) -> list[str]:
        self.add(turns, **_SCOPE, infer=self.llm is not None)
        return self.vector_store.texts


@dataclass(frozen=True, slots=True)
class _KnownFact:
    id: str
    payload: Mapping[str, str]


class _Collector:
    """Replaces mem0's vector store: returns the known facts and collects the added ones in a list."""

    def __init__(self, known: Sequence[str]) -> None:
        self._known = known
        self.texts: list[str] = []

    def search(self, **_: Any) -> list[_KnownFact]:
        return [_KnownFact(str(number), {"data": text}) for number, text in enumerate(self._known)]

    def insert(self, *, payloads: Sequence[Mapping[str, str]], **_: Any) -> None:
        self.texts.extend(payload["data"] for payload in payloads)


class _NoVectors:
    def embed(self, *_: Any, **__: Any) -> list[float]:
        return []

    def embed_batch(self, texts: Sequence[str], *_: Any) -> list[list[float]]:
        return [[] for _ in texts]


class _NoHistory:
    def get_last_messages(self, *_: Any, **__: Any) -> list[dict[str, str]]:
        return []

    def save_messages(self, *_: Any, **__: Any) -> None: ...

    def add_history(self, *_: Any, **__: Any) -> None: ...

    def batch_add_history(self, *_: Any, **__: Any) -> None: ...


def _newest(messages: Sequence[Message]) -> list[dict[str, str]]:
    """The last messages that fit; the oldest of them is truncated."""
    left = _MAX_TURN_CHARACTERS
    chosen: list[dict[str, str]] = []
    for message in reversed(messages):
        if content := message.content[:left]:
            chosen.append({"role": message.speaker.value, "content": content})
        left -= len(content)
    return chosen[::-1]


def _checked(answer: object) -> str:
    """The answer without characters that PostgreSQL cannot store. Raises ValueError if it violates the schema.

    Not every server enforces the schema, and a JSON escape may hold NUL or half a surrogate pair, on which mem0 fails.
    """
    parsed = json.loads(answer) if isinstance(answer, str) else None
    facts = parsed.get("memory") if isinstance(parsed, dict) else None
    if not isinstance(facts, list) or not all(isinstance(fact, dict) for fact in facts):
        raise ValueError("the model's answer does not match the schema")
    return json.dumps({"memory": [{"text": _storable(fact.get("text"))} for fact in facts]})


def _storable(text: object) -> str:
    if not isinstance(text, str):
        raise ValueError("a fact is not a string")  # noqa: TRY004 - the answer is wrong, not the caller
    return text.replace("\x00", "").encode(errors="ignore").decode()


def _note_usage(completion: openai.types.chat.ChatCompletion) -> None:
    if usage := completion.usage:
        span = trace.get_current_span()
        span.set_attribute("gen_ai.usage.input_tokens", usage.prompt_tokens)
        span.set_attribute("gen_ai.usage.output_tokens", usage.completion_tokens)


def _tidied(texts: Sequence[str]) -> list[str]:
    """Each fact once, at most 20."""
    facts = {text_hash(text): text for text in map(shortened, texts) if text}
    return list(facts.values())[:_MAX_FACTS]
