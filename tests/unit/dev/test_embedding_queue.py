"""The embedding server under more load than it can do: it refuses, and forgets callers that left."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx
import pytest
import uvicorn
from fakes.dev_embedder import FakeEmbedder
from mesh_dev.embedding_queue import MAX_QUEUED_TEXTS, EmbeddingQueue
from mesh_dev.embedding_server import create_app

_WITHIN_S = 10.0


@pytest.fixture
async def embedder() -> AsyncIterator[FakeEmbedder]:
    embedder = FakeEmbedder()
    yield embedder
    embedder.go_on.set()


@asynccontextmanager
async def _served(embedder: FakeEmbedder) -> AsyncIterator[httpx.AsyncClient]:
    """Over real connections, which a client can close."""
    config = uvicorn.Config(create_app(embedder), host="127.0.0.1", port=0, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    socket = config.bind_socket()
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve([socket]))
        url = f"http://127.0.0.1:{socket.getsockname()[1]}"
        async with httpx.AsyncClient(base_url=url, timeout=30.0, limits=httpx.Limits(max_connections=None)) as client:
            try:
                yield client
            finally:
                embedder.go_on.set()
                server.should_exit = True
    socket.close()


async def _begun(embedder: FakeEmbedder) -> None:
    async with asyncio.timeout(_WITHIN_S):
        await asyncio.to_thread(embedder.has_begun.wait)


async def test_more_than_the_queue_holds_is_refused_and_told_when_to_come_back(embedder: FakeEmbedder) -> None:
    texts = ["query: a"] * 64
    embedder.hold()
    async with _served(embedder) as client, asyncio.TaskGroup() as group:
        calls = [group.create_task(client.post("/v1/embeddings", json={"input": texts})) for _ in range(20)]
        async with asyncio.timeout(_WITHIN_S):
            while sum(call.done() for call in calls) < 20 - MAX_QUEUED_TEXTS // 64:
                await asyncio.wait([call for call in calls if not call.done()], return_when=asyncio.FIRST_COMPLETED)
        refused = [call.result() for call in calls if call.done()]
        embedder.go_on.set()

    assert {(response.status_code, response.headers["retry-after"]) for response in refused} == {(503, "1")}
    assert [call.result().status_code for call in calls].count(200) == MAX_QUEUED_TEXTS // 64


async def test_work_of_a_caller_that_left_is_dropped(embedder: FakeEmbedder) -> None:
    embedder.hold()
    async with _served(embedder) as client, asyncio.TaskGroup() as group:
        first = group.create_task(client.post("/v1/embeddings", json={"input": "query: first"}))
        await _begun(embedder)
        with pytest.raises(httpx.ReadTimeout):
            await client.post("/v1/embeddings", json={"input": "query: gone"}, timeout=0.5)
        later = group.create_task(client.post("/v1/embeddings", json={"input": "query: later"}))
        health = await client.get("/health")
        embedder.go_on.set()

    assert health.status_code == first.result().status_code == later.result().status_code == 200
    assert [text for text, _ in embedder.asked] == ["first", "later"]


async def test_batch_of_a_caller_that_left_ends_early(embedder: FakeEmbedder) -> None:
    embedder.hold()
    async with _served(embedder) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.post("/v1/embeddings", json={"input": ["query: gone"] * 128}, timeout=0.5)
        await _begun(embedder)
        # The answer shows that the server has noticed the closed connection before.
        assert (await client.get("/health")).status_code == 200
        embedder.go_on.set()
        assert (await client.post("/v1/embeddings", json={"input": "query: later"})).status_code == 200

    assert len(embedder.asked) < 128
    assert embedder.asked[-1] == ("later", True)


async def test_short_request_does_not_wait_for_the_end_of_a_batch() -> None:
    asked: list[str] = []
    go_on = threading.Event()

    def embed(texts: Sequence[str]) -> Sequence[str]:
        asked.extend(texts)
        assert go_on.wait(timeout=_WITHIN_S)
        return texts

    queue = EmbeddingQueue(embed)
    async with asyncio.TaskGroup() as group:
        batch = group.create_task(queue.embed(["long"] * 128, asyncio.Event().wait()))
        short = group.create_task(queue.embed(["short"], asyncio.Event().wait()))
        for _ in range(10):
            # Both requests have got as far as they can.
            await asyncio.sleep(0)
        go_on.set()

    assert batch.result() == ["long"] * 128
    assert short.result() == ["short"]
    assert asked.index("short") < 64
