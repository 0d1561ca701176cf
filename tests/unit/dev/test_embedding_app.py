import base64
from collections.abc import AsyncIterator

import httpx
import numpy as np
import pytest
from fakes.dev_embedder import FakeEmbedder
from mesh_dev.embedding_server import MAX_TEXT_CHARS, MAX_TEXTS, create_app


@pytest.fixture
def embedder() -> FakeEmbedder:
    return FakeEmbedder()


@pytest.fixture
async def client(embedder: FakeEmbedder) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=create_app(embedder))
    async with httpx.AsyncClient(transport=transport, base_url="http://embeddings") as client:
        yield client


async def test_texts_are_embedded_in_order_with_their_prefix_as_the_mode(
    client: httpx.AsyncClient, embedder: FakeEmbedder
) -> None:
    texts = ["passage: aa", "query: b", "cccc"]

    response = await client.post("/v1/embeddings", json={"model": "any", "input": texts})

    vectors = [item["embedding"] for item in response.json()["data"]]
    assert [int(np.argmax(vector)) for vector in vectors] == [2, 1, 4]
    assert sorted(embedder.asked) == [("aa", False), ("b", True), ("cccc", False)]


async def test_answer_has_the_shape_of_openai(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/embeddings", json={"input": "query: two words"})

    body = response.json()
    assert body["object"] == "list"
    assert body["model"] == "multilingual-e5-small"
    assert body["usage"] == {"prompt_tokens": 2, "total_tokens": 2}
    assert [(item["object"], item["index"], len(item["embedding"])) for item in body["data"]] == [("embedding", 0, 384)]


async def test_base64_holds_the_same_floats(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/embeddings", json={"input": "query: b", "encoding_format": "base64"})

    raw = base64.b64decode(response.json()["data"][0]["embedding"])
    vector = np.frombuffer(raw, dtype="<f4")
    assert vector.shape == (384,)
    assert int(np.argmax(vector)) == 1


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"{", "body"),
        (b"{}", "input"),
        (b'{"input": 7}', "input"),
        (b'{"input": []}', "input"),
        (b'{"input": ["a"], "encoding_format": "int8"}', "encoding_format"),
        (b'{"input": [' + b",".join([b'"a"'] * (MAX_TEXTS + 1)) + b"]}", "input"),
        (b'{"input": "' + b"a" * (MAX_TEXT_CHARS + 1) + b'"}', "input"),
        (b'{"input": "\\ud800"}', "body"),
    ],
)
async def test_bad_requests_are_refused_with_the_field(client: httpx.AsyncClient, body: bytes, named: str) -> None:
    response = await client.post("/v1/embeddings", content=body)

    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith(named)
