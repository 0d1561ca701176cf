"""Vectors from an OpenAI-compatible `POST /v1/embeddings`.

Uses aiohttp, because each turn makes such a call and httpx needs four times the CPU for it (0.6 ms instead of 0.15 ms).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Final

import aiohttp
import orjson
from mesh_common.clock import utc_now
from mesh_common.errors import Unavailable
from mesh_common.model_server import MAX_REFUSAL_BYTES, Refusal, refusal_of
from mesh_common.model_server_waits import requested_wait_s
from mesh_common.process.telemetry import tracer
from mesh_common.retrying import with_retries
from opentelemetry.trace import SpanKind, Status, StatusCode
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from mesh_memory.domain import Vector
from mesh_memory.metrics import EMBEDDING_SECONDS
from mesh_memory.settings import MemorySettings

_RETRY_AFTER_S: Final = 1.0
_BACKOFF_BASE_S: Final = 0.1
_BACKOFF_MAX_S: Final = 1.0
# A fact has at most 2,000 characters; for a complete message, its beginning says what it is about.
_MAX_CHARACTERS: Final = 2_000
# Retry only requests that never reached the server, so that a busy server does not get more load.
_RETRIED: Final = aiohttp.ClientConnectorError
# Below the five seconds for which such servers keep an idle connection, so that no closing connection is reused.
_KEEP_ALIVE_S: Final = 4.0
_MAX_CONNECTIONS: Final = 100


class HttpEmbedder:
    """`tries` counts requests that never reached the server; the others are never repeated here."""

    def __init__(self, session: aiohttp.ClientSession, settings: MemorySettings, *, tries: int = 1) -> None:
        self._session = session
        self._url = f"{settings.embedding_base_url.rstrip('/')}/embeddings"
        self._settings = settings
        self._tries = tries

    @property
    def space(self) -> str:
        return f"{self._settings.embedding_model}/{self._settings.embedding_dimensions}"

    async def query(self, text: str, *, timeout_s: float) -> Vector:
        [vector] = await self._vectors([self._settings.embedding_query_prefix + text[:_MAX_CHARACTERS]], timeout_s)
        return vector

    async def passages(self, texts: Sequence[str], *, timeout_s: float) -> list[Vector]:
        prefix = self._settings.embedding_passage_prefix
        return await self._vectors([prefix + text[:_MAX_CHARACTERS] for text in texts], timeout_s)

    async def _vectors(self, texts: list[str], timeout_s: float) -> list[Vector]:
        model = self._settings.embedding_model
        with (
            _counted(),
            tracer.start_as_current_span(f"embeddings {model}", kind=SpanKind.CLIENT, record_exception=False) as span,
        ):
            span.set_attributes(
                {
                    "gen_ai.operation.name": "embeddings",
                    "gen_ai.provider.name": "openai",
                    "gen_ai.request.model": model,
                    "gen_ai.embeddings.dimension.count": self._settings.embedding_dimensions,
                }
            )
            try:
                async with asyncio.timeout(timeout_s):
                    answer = await self._post({"model": model, "input": texts, "encoding_format": "float"})
                vectors = _vectors_of(answer, len(texts), self._settings.embedding_dimensions)
            except Unavailable as error:
                span.set_status(Status(StatusCode.ERROR, error.reason))
                raise
            except (aiohttp.ClientError, TimeoutError, ValueError, TypeError, KeyError) as error:
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                raise Unavailable("The embedding server returns no vectors.", retry_after_s=_RETRY_AFTER_S) from error
            span.set_attribute("gen_ai.usage.input_tokens", _tokens_of(answer))
            return vectors

    async def _post(self, body: dict[str, Any]) -> Any:
        content = orjson.dumps(body)
        answer = await with_retries(partial(self._post_once, content), self._retrying, on=_RETRIED)
        return orjson.loads(answer)

    async def _post_once(self, content: bytes) -> bytes:
        async with self._session.post(self._url, data=content, allow_redirects=False) as response:
            if not response.ok:
                raise await _refusal(response)
            return await response.read()

    def _retrying(self) -> AsyncRetrying:
        return AsyncRetrying(
            stop=stop_after_attempt(self._tries),
            wait=wait_random_exponential(_BACKOFF_BASE_S, _BACKOFF_MAX_S),
            retry=retry_if_exception_type(_RETRIED),
            reraise=True,
        )


@asynccontextmanager
async def open_embedder(
    settings: MemorySettings, *, connections: int = _MAX_CONNECTIONS, tries: int = 1
) -> AsyncIterator[HttpEmbedder]:
    """An embedder with connections of its own, at most `connections`; further calls wait within their time limit."""
    headers = {"content-type": "application/json"}
    if settings.embedding_api_key:
        headers["authorization"] = f"Bearer {settings.embedding_api_key.get_secret_value()}"
    connector = aiohttp.TCPConnector(limit=connections, keepalive_timeout=_KEEP_ALIVE_S)
    # The deadline of each call is the only one.
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=None)
    cookies = aiohttp.DummyCookieJar()
    async with aiohttp.ClientSession(
        headers=headers, connector=connector, timeout=timeout, cookie_jar=cookies
    ) as session:
        yield HttpEmbedder(session, settings, tries=tries)


async def _refusal(response: aiohttp.ClientResponse) -> Unavailable:
    """Never retried here: a server that is busy gets no more load, and for recall the caller waits."""
    body = await response.content.read(MAX_REFUSAL_BYTES)
    refusal = refusal_of(response.status, body)
    if refusal is Refusal.MISCONFIGURED:
        return Unavailable(
            f"The embedding server refused the call with {response.status}.",
            reason="EMBEDDING_MISCONFIGURED",
            retry_after_s=_RETRY_AFTER_S,
        )
    wait_s = requested_wait_s(response.headers, utc_now(), body) if refusal.is_temporary else None
    return Unavailable("The embedding server returns no vectors.", retry_after_s=wait_s or _RETRY_AFTER_S)


@contextmanager
def _counted() -> Iterator[None]:
    started_s = time.perf_counter()
    outcome = "cancelled"
    try:
        yield
        outcome = "done"
    except Unavailable:
        outcome = "unavailable"
        raise
    finally:
        EMBEDDING_SECONDS.labels(outcome).observe(time.perf_counter() - started_s)


def _vectors_of(answer: Any, count: int, dimensions: int) -> list[Vector]:
    """Raises ValueError, TypeError or KeyError for anything but `count` vectors of numbers of that length."""
    entries = sorted(answer["data"], key=lambda entry: int(entry["index"]))
    vectors = [list(map(float, entry["embedding"])) for entry in entries]
    if len(vectors) != count or any(len(vector) != dimensions for vector in vectors):
        raise ValueError(f"expected {count} vectors of {dimensions} dimensions")
    if not all(map(any, vectors)):
        # The cosine of a zero vector is undefined, so such a memory would never be found.
        raise ValueError("a vector is zero")
    return vectors


def _tokens_of(answer: Any) -> int:
    usage = answer.get("usage")
    return int(usage.get("prompt_tokens") or 0) if isinstance(usage, dict) else 0
