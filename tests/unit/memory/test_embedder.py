"""The adapter of the embedding server, against responses that the tests define."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from socket import AF_INET, AddressFamily
from typing import Any

import orjson
import pytest
from aiohttp import ClientSession, TCPConnector, web
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.test_utils import TestServer
from mesh_admin.secrets import make_secrets
from mesh_common.errors import Unavailable
from mesh_memory.embedder import HttpEmbedder
from mesh_memory.settings import MemorySettings
from prometheus_client import REGISTRY

type Handler = Callable[[web.Request], Awaitable[web.Response]]
type Serve = Callable[..., Awaitable[HttpEmbedder]]


class FailingAtFirst(AbstractResolver):
    """Resolves the server after `failures` failed tries."""

    def __init__(self) -> None:
        self.failures = 0
        self.tries = 0

    async def resolve(self, host: str, port: int = 0, family: AddressFamily = AF_INET) -> list[ResolveResult]:
        self.tries += 1
        if self.tries <= self.failures:
            raise OSError("no such host")
        return [
            ResolveResult(hostname=host, host="127.0.0.1", port=port, family=family, proto=0, flags=0),
        ]

    async def close(self) -> None:
        pass


@pytest.fixture
def resolver() -> FailingAtFirst:
    return FailingAtFirst()


@pytest.fixture
async def serve(settings: MemorySettings, resolver: FailingAtFirst) -> AsyncIterator[Serve]:
    """Creates embedders whose server responds as the given handler does."""
    servers: list[TestServer] = []

    async def with_server(handler: Handler, tries: int = 1) -> HttpEmbedder:
        app = web.Application()
        app.router.add_post("/v1/embeddings", handler)
        servers.append(TestServer(app))
        await servers[-1].start_server()
        url = f"http://embeddings.test:{servers[-1].port}/v1"
        return HttpEmbedder(session, settings.model_copy(update={"embedding_base_url": url}), tries=tries)

    async with ClientSession(connector=TCPConnector(resolver=resolver, use_dns_cache=False)) as session:
        yield with_server
    for server in servers:
        await server.close()


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


def _answer(*vectors: list[float]) -> web.Response:
    data = [{"index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    return web.json_response({"data": data, "usage": {"prompt_tokens": 3}})


def _always(make: Callable[[], web.Response]) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        return make()

    return handler


async def test_queries_and_passages_get_their_prefixes(serve: Serve) -> None:
    bodies: list[dict[str, Any]] = []

    async def take(request: web.Request) -> web.Response:
        bodies.append(orjson.loads(await request.read()))
        return _answer([1.0, 0.0])

    embedder = await serve(take)
    vector = await embedder.query("tea", timeout_s=1.0)
    await embedder.passages(["I like tea."], timeout_s=1.0)

    assert vector == [1.0, 0.0]
    assert [body["input"] for body in bodies] == [["query: tea"], ["passage: I like tea."]]
    assert {body["model"] for body in bodies} == {"e5"}


async def test_vectors_come_in_the_order_of_the_texts_whatever_the_order_of_the_answer(serve: Serve) -> None:
    data = [{"index": 1, "embedding": [0.0, 1.0]}, {"index": 0, "embedding": [1, 0]}]
    embedder = await serve(_always(lambda: web.json_response({"data": data})))

    vectors = await embedder.passages(["a", "b"], timeout_s=1.0)

    assert vectors == [[1.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b"out of memory"),
        (429, b""),
        (302, b""),
        (200, b"<html>"),
        (200, b'["data"]'),
        (200, b'{"data": null}'),
        (200, b'{"data": []}'),
        (200, b'{"data": [{"index": 0, "embedding": [1.0]}]}'),
        (200, b'{"data": [{"index": 0, "embedding": [0.0, 0.0]}]}'),
        (200, b'{"data": [{"index": 0, "embedding": ["x", "y"]}]}'),
        (200, b'{"data": [{"index": 0, "embedding": [1.0, 0.0]}, {"index": 0, "embedding": [1.0, 0.0]}]}'),
    ],
)
async def test_anything_but_the_vectors_asked_for_is_unavailable(serve: Serve, status: int, body: bytes) -> None:
    headers = {"Location": "/v1/embeddings"}
    embedder = await serve(_always(lambda: web.Response(status=status, body=body, headers=headers)))

    with pytest.raises(Unavailable) as raised:
        await embedder.query("tea", timeout_s=1.0)

    assert raised.value.retry_after_s


@pytest.mark.parametrize(
    ("status", "headers", "reason", "retry_after_s"),
    [
        (503, {"Retry-After": "7.5"}, "UNAVAILABLE", 7.5),
        (429, {"Retry-After": "\u00b2"}, "UNAVAILABLE", 1.0),
        (401, {"Retry-After": "7"}, "EMBEDDING_MISCONFIGURED", 1.0),
        (404, {}, "EMBEDDING_MISCONFIGURED", 1.0),
    ],
)
async def test_refusal_says_when_to_come_back_or_that_an_operator_must_act(
    serve: Serve, status: int, headers: dict[str, str], reason: str, retry_after_s: float
) -> None:
    embedder = await serve(_always(lambda: web.Response(status=status, headers=headers)))

    with pytest.raises(Unavailable) as raised:
        await embedder.query("tea", timeout_s=5.0)

    assert (raised.value.reason, raised.value.retry_after_s) == (reason, retry_after_s)


async def test_server_that_says_nothing_is_given_up_in_time(serve: Serve) -> None:
    is_over = asyncio.Event()

    async def hang(_: web.Request) -> web.Response:
        await is_over.wait()
        return _answer([1.0, 0.0])

    embedder = await serve(hang)
    with pytest.raises(Unavailable):
        await embedder.query("tea", timeout_s=0.05)
    is_over.set()


async def test_connection_cut_in_the_answer_is_unavailable(serve: Serve) -> None:
    async def cut(request: web.Request) -> web.Response:
        assert request.transport
        request.transport.abort()
        return _answer([1.0, 0.0])

    embedder = await serve(cut)
    with pytest.raises(Unavailable):
        await embedder.query("tea", timeout_s=5.0)


async def test_a_request_is_never_sent_twice(serve: Serve, resolver: FailingAtFirst) -> None:
    embedder = await serve(_always(lambda: _answer([1.0, 0.0])))
    resolver.failures = 1

    with pytest.raises(Unavailable):
        await embedder.query("tea", timeout_s=5.0)

    assert resolver.tries == 1


async def test_background_work_tries_to_connect_again(serve: Serve, resolver: FailingAtFirst) -> None:
    patient = await serve(_always(lambda: _answer([1.0, 0.0])), 3)
    resolver.failures = 1

    vectors = await patient.passages(["tea"], timeout_s=5.0)

    assert (vectors, resolver.tries) == ([[1.0, 0.0]], 2)


async def test_a_server_that_answered_badly_is_not_asked_again(serve: Serve) -> None:
    attempts = 0

    def fail() -> web.Response:
        nonlocal attempts
        attempts += 1
        return web.Response(status=503)

    patient = await serve(_always(fail), 3)
    with pytest.raises(Unavailable):
        await patient.query("tea", timeout_s=5.0)

    assert attempts == 1


async def test_vectors_of_another_length_belong_to_another_space(serve: Serve, settings: MemorySettings) -> None:
    embedder = await serve(_always(_answer))
    async with ClientSession() as session:
        longer = HttpEmbedder(session, settings.model_copy(update={"embedding_dimensions": 3}))

        assert embedder.space != longer.space


async def test_calls_are_counted_by_outcome(serve: Serve) -> None:
    before = {outcome: _counted(outcome) for outcome in ("done", "unavailable")}

    await (await serve(_always(lambda: _answer([1.0, 0.0])))).query("tea", timeout_s=1.0)
    failing = await serve(_always(lambda: web.Response(status=500)))
    with pytest.raises(Unavailable):
        await failing.query("tea", timeout_s=1.0)

    assert {outcome: _counted(outcome) - count for outcome, count in before.items()} == {"done": 1, "unavailable": 1}


def _counted(outcome: str) -> float:
    name = "mesh_memory_embedding_duration_seconds_count"
    return REGISTRY.get_sample_value(name, {"outcome": outcome}) or 0.0
