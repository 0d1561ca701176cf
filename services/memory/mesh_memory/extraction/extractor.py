"""Extracts facts from a turn. The only module that imports mem0.

It runs mem0's own pipeline (`Memory.add`, with or without inference) with three parts replaced. The vector store is a
list, because our store writes and searches (docs/adr/0005). The SQLite history is empty, because replicas would
not share it. The model gets our prompt: mem0's costs 8,000 tokens per turn, and a user's text can forge its sections.
"""

import asyncio
import contextvars
import json
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any, Final

import httpx2
import openai
from mesh_common.errors import MeshError
from mesh_common.process.telemetry import tracer
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from mesh_memory.domain import Fact, Message, Origin, Speaker, own_statements
from mesh_memory.extraction import mem0_environment
from mesh_memory.extraction.errors import error_of
from mesh_memory.extraction.messages import FORMAT, CitedFact, Conversation, cited_facts, content_of
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
# How long after the deadline a thread still waits for the event loop to enforce it.
_DEADLINE_MARGIN_S: Final = 5.0
_CONNECT_TIMEOUT_S: Final = 5.0
_PROMPT: Final = resources.files("mesh_memory").joinpath("prompts/extract_facts.md")


class Mem0Extractor:
    """With a model: the facts it finds. Without: the user's messages minus questions (mem0 without inference)."""

    def __init__(self, llm: "_ExtractionLLM | None", executor: ThreadPoolExecutor) -> None:
        self._llm = llm
        self._executor = executor

    @property
    def origin(self) -> Origin:
        return Origin.EXTRACTED if self._llm else Origin.VERBATIM

    async def facts(self, messages: Sequence[Message], known: Sequence[str]) -> list[Fact]:
        """See `Extractor.facts`. Calls the model once, and not at all if the user said nothing."""
        if self._llm is None:
            return await self._statements(messages)
        if not any(message.speaker is Speaker.USER for message in messages):
            return []
        conversation = Conversation.of(messages)
        return conversation.facts(await self._observed(_Answer(self._llm, conversation.document(known))))

    async def _statements(self, messages: Sequence[Message]) -> list[Fact]:
        said = [
            (message, text)
            for message in messages
            if message.speaker is Speaker.USER
            for text in own_statements([message.content])
        ]
        if not said:
            return []
        turns = [{"role": "user", "content": text} for _, text in said]
        sources = {text: message.source for message, text in reversed(said)}
        kept = await self._in_thread(_Pipeline(None), turns)
        return [Fact(text, sources[text]) for text in dict.fromkeys(kept)]

    async def _observed(self, answer: "_Answer") -> list[CitedFact]:
        started_s = time.perf_counter()
        outcome = "failed"
        with tracer.start_as_current_span(
            f"chat {answer.llm.model}", kind=SpanKind.CLIENT, record_exception=False, set_status_on_exception=False
        ) as span:
            span.set_attributes(
                {
                    "gen_ai.operation.name": "chat",
                    "gen_ai.provider.name": "openai",
                    "gen_ai.request.model": answer.llm.model,
                    "gen_ai.output.type": "json",
                }
            )
            try:
                texts = await self._in_thread(_Pipeline(answer), [{"role": "user", "content": answer.document}])
                outcome = "done"
            except MeshError as error:
                span.set_status(Status(StatusCode.ERROR, error.reason))
                raise
            finally:
                EXTRACTION_SECONDS.labels(outcome).observe(time.perf_counter() - started_s)
            return [CitedFact(text, answer.numbers.get(text)) for text in texts]

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
    llm = _ExtractionLLM(settings) if settings.extraction_model else None
    try:
        yield Mem0Extractor(llm, executor)
    finally:
        if llm:
            await llm.close()
        executor.shutdown(wait=False, cancel_futures=True)


class _ExtractionLLM(OpenAILLM):  # type: ignore[misc]  # mem0 has no types
    """mem0's OpenAI model with our prompt and a JSON schema.

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
            # The deadline below bounds the whole call. What fails while connecting has cost nothing.
            timeout=httpx2.Timeout(self._timeout_s, connect=min(self._timeout_s, _CONNECT_TIMEOUT_S)),
            max_retries=0,
            # Users' texts go only where the settings say: neither where a redirect points nor through a proxy that the
            # environment names.
            http_client=openai.DefaultAsyncHttpxClient(follow_redirects=False, trust_env=False),
        )
        super().__init__(OpenAIConfig(model=self.model, temperature=0.0, api_key=self._client.api_key))
        self._prompt = _PROMPT.read_text("utf-8")
        # mem0's own client has no deadline and, if OPENROUTER_API_KEY is in the environment, uses another server.
        self.client.close()

    async def close(self) -> None:
        await self._client.close()

    def ask(self, document: str) -> str | None:
        """The model's answer; None if it has no text. Called in a thread."""
        messages = [{"role": "system", "content": self._prompt}, {"role": "user", "content": document}]
        answer = asyncio.run_coroutine_threadsafe(self._completed(messages), self._loop)
        return answer.result(self._timeout_s + _DEADLINE_MARGIN_S)

    async def _completed(self, messages: list[dict[str, str]]) -> str | None:
        # mem0 knows which models do not support a temperature.
        params = self._get_supported_params(messages=messages, response_format=FORMAT)
        async with asyncio.timeout(self._timeout_s):
            completion = await self._client.chat.completions.create(model=self.model, **params)
        _note_usage(completion)
        return content_of(completion)


class _Answer:
    """One answer of the model, in the place of mem0's model. mem0 takes an unreadable answer for "no facts"."""

    def __init__(self, llm: _ExtractionLLM, document: str) -> None:
        self.llm = llm
        self.document = document
        self.numbers: dict[str, int | None] = {}

    def generate_response(self, *_: Any, **__: Any) -> str:
        """Ignores mem0's prompt. Raises UnreadableAnswer."""
        facts = cited_facts(self.llm.ask(self.document))
        self.numbers = {fact.text: fact.number for fact in facts}
        return json.dumps({"memory": [{"text": fact.text} for fact in facts]})


class _Pipeline(Mem0):  # type: ignore[misc]  # mem0 has no types
    """`Memory.add` of mem0 for one turn. Does not call mem0's constructor, which opens a vector store and SQLite."""

    def __init__(self, llm: _Answer | None) -> None:
        self.config = MemoryConfig()
        self.llm = llm
        self.embedding_model = _NoVectors()
        self.vector_store = _Collector()
        self.db = _NoHistory()
        self.custom_instructions = None
        self.api_version = self.config.version
        self.collection_name = "none"
        # mem0 extracts entities only if spaCy is installed, and tolerates that they cannot be stored.
        self._entity_store = _NoHistory()

    def run(self, turns: list[dict[str, str]]) -> list[str]:
        self.add(turns, **_SCOPE, infer=self.llm is not None)
        return self.vector_store.texts


class _Collector:
    """Replaces mem0's vector store: has no facts, and collects the added ones in a list."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def search(self, **_: Any) -> list[Any]:
        return []

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


def _note_usage(completion: object) -> None:
    span, usage = trace.get_current_span(), getattr(completion, "usage", None)
    for name, field in (("input", "prompt_tokens"), ("output", "completion_tokens")):
        if isinstance(tokens := getattr(usage, field, None), int):
            span.set_attribute(f"gen_ai.usage.{name}_tokens", tokens)
