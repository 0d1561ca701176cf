import asyncio
import statistics
import time
from collections.abc import AsyncIterator

import httpx
import numpy as np
import pytest
from mesh_dev import parts
from support.net import free_port


@pytest.fixture(scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    port = free_port()
    embeddings = parts.embedding_server(tmp_path_factory.mktemp("embeddings"), port)
    await embeddings.start()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        yield client
    await embeddings.stop()


async def embed(client: httpx.AsyncClient, *texts: str) -> np.ndarray:
    response = await client.post("/v1/embeddings", json={"model": "multilingual-e5-small", "input": list(texts)})
    return np.array([item["embedding"] for item in response.json()["data"]])


async def test_related_texts_are_nearer_than_others_in_english_and_korean(client: httpx.AsyncClient) -> None:
    question, city, dish, korean = await embed(
        client,
        "query: Where does the user live?",
        "passage: The user lives in Seoul.",
        "passage: The user likes spicy noodles.",
        "passage: 사용자는 서울에 산다.",
    )

    assert question @ city > question @ dish + 0.02
    assert question @ korean > question @ dish


async def test_batch_gives_the_vectors_of_single_calls_of_length_one(client: httpx.AsyncClient) -> None:
    texts = ("passage: The user lives in Seoul.", "passage: The user has a cat.")

    batch = await embed(client, *texts)
    singles = np.concatenate([await embed(client, text) for text in texts])

    assert np.allclose(batch, singles, atol=1e-4)
    assert np.allclose(np.linalg.norm(batch, axis=1), 1.0, atol=1e-3)


async def test_health_does_not_wait_for_a_long_batch(client: httpx.AsyncClient) -> None:
    async with asyncio.TaskGroup() as group:
        batch = group.create_task(embed(client, *["passage: The user lives in Seoul, near the river."] * 128))
        health = await client.get("/health", timeout=1)
        was_busy = not batch.done()

    assert health.status_code == 200
    assert was_busy


async def test_answers_do_not_wait_for_an_acknowledgement(client: httpx.AsyncClient) -> None:
    """Nagle's algorithm delays a small write that follows another one by 40 ms."""
    durations_s = []
    for _ in range(11):
        started = time.perf_counter()
        await client.post("/v1/embeddings", json={"input": []})
        durations_s.append(time.perf_counter() - started)

    assert statistics.median(durations_s) < 0.02
