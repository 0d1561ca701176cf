"""The adapter of the embedding server, against answers made here."""

from collections.abc import Callable
from typing import Any

import httpx
import orjson
import pytest
from mesh_common.errors import Unavailable
from mesh_common.secrets import make_secrets
from mesh_memory.embedder import HttpEmbedder
from mesh_memory.settings import MemorySettings
from prometheus_client import REGISTRY

Handler = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> MemorySettings:
    secrets = make_secrets()
    jwks_file = tmp_path_factory.mktemp("keys") / "jwks.json"
    jwks_file.write_text(secrets.service_jwks())
    values: dict[str, Any] = {
        "service_key": secrets.service_keys["memory"],
        "service_jwks_file": jwks_file,
        "database_url": "postgresql://memory_login_a:secret@localhost:5432/mesh",
        "embedding_model": "e5",
        "embedding_dimensions": 2,
        "embedding_query_prefix": "query: ",
        "embedding_passage_prefix": "passage: ",
    }
    return MemorySettings(**values)


def _embedder(settings: MemorySettings, handler: Handler) -> HttpEmbedder:
    client = httpx.AsyncClient(base_url="http://embeddings/v1", transport=httpx.MockTransport(handler))
    return HttpEmbedder(client, settings)


def _answer(*vectors: list[float]) -> httpx.Response:
    data = [{"index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    return httpx.Response(200, json={"data": data, "usage": {"prompt_tokens": 3}})


async def test_queries_and_passages_get_their_prefixes(settings: MemorySettings) -> None:
    bodies: list[dict[str, Any]] = []

    def serve(request: httpx.Request) -> httpx.Response:
        bodies.append(orjson.loads(request.content))
        return _answer([1.0, 0.0])

    embedder = _embedder(settings, serve)
    vector = await embedder.query("tea", timeout_s=1.0)
    await embedder.passages(["I like tea."], timeout_s=1.0)

    assert vector == [1.0, 0.0]
    assert [body["input"] for body in bodies] == [["query: tea"], ["passage: I like tea."]]
    assert {body["model"] for body in bodies} == {"e5"}


async def test_vectors_come_in_the_order_of_the_texts_whatever_the_order_of_the_answer(
    settings: MemorySettings,
) -> None:
    data = [{"index": 1, "embedding": [0.0, 1.0]}, {"index": 0, "embedding": [1.0, 0.0]}]

    vectors = await _embedder(settings, lambda _: httpx.Response(200, json={"data": data})).passages(
        ["a", "b"], timeout_s=1.0
    )

    assert vectors == [[1.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(500, text="out of memory"),
        httpx.Response(429, headers={"Retry-After": "1"}),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json=["data"]),
        httpx.Response(200, json={"data": None}),
        httpx.Response(200, json={"data": []}),
        httpx.Response(200, json={"data": [{"index": 0, "embedding": [1.0]}]}),
        httpx.Response(200, json={"data": [{"index": 0, "embedding": [0.0, 0.0]}]}),
        httpx.Response(200, json={"data": [{"index": 0, "embedding": ["x", "y"]}]}),
        httpx.Response(200, json={"data": [{"index": 0, "embedding": [1.0, 0.0]}] * 2}),
    ],
)
async def test_anything_but_the_vectors_asked_for_is_unavailable(
    settings: MemorySettings, response: httpx.Response
) -> None:
    with pytest.raises(Unavailable) as raised:
        await _embedder(settings, lambda _: response).query("tea", timeout_s=1.0)

    assert raised.value.retry_after_s


async def test_a_request_is_never_sent_twice(settings: MemorySettings) -> None:
    attempts = 0

    def refuse(request: httpx.Request) -> httpx.Response:
        nonlocal attempts
        attempts += 1
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(Unavailable):
        await _embedder(settings, refuse).query("tea", timeout_s=5.0)

    assert attempts == 1


async def test_work_beside_requests_tries_to_connect_again(settings: MemorySettings) -> None:
    attempts = 0

    def refuse_once(request: httpx.Request) -> httpx.Response:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise httpx.ConnectError("refused", request=request)
        return _answer([1.0, 0.0])

    vectors = await _embedder(settings, refuse_once).patient().passages(["tea"], timeout_s=5.0)

    assert (vectors, attempts) == ([[1.0, 0.0]], 2)


async def test_a_server_that_answered_badly_is_not_asked_again(settings: MemorySettings) -> None:
    attempts = 0

    def fail(_: httpx.Request) -> httpx.Response:
        nonlocal attempts
        attempts += 1
        return httpx.Response(503)

    with pytest.raises(Unavailable):
        await _embedder(settings, fail).patient().query("tea", timeout_s=5.0)

    assert attempts == 1


async def test_vectors_of_another_length_belong_to_another_space(settings: MemorySettings) -> None:
    longer = settings.model_copy(update={"embedding_dimensions": 3})

    assert _embedder(settings, lambda _: _answer()).space != _embedder(longer, lambda _: _answer()).space


async def test_calls_are_counted_by_outcome(settings: MemorySettings) -> None:
    before = {outcome: _counted(outcome) for outcome in ("done", "unavailable")}

    await _embedder(settings, lambda _: _answer([1.0, 0.0])).query("tea", timeout_s=1.0)
    with pytest.raises(Unavailable):
        await _embedder(settings, lambda _: httpx.Response(500)).query("tea", timeout_s=1.0)

    assert {outcome: _counted(outcome) - count for outcome, count in before.items()} == {"done": 1, "unavailable": 1}


def _counted(outcome: str) -> float:
    name = "mesh_memory_embedding_duration_seconds_count"
    return REGISTRY.get_sample_value(name, {"outcome": outcome}) or 0.0
