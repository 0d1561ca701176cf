from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import orjson
import pytest
from mesh_dev import parts
from mesh_dev.errors import ChildDiedError
from support.net import free_port

QUESTION = [{"role": "user", "content": "Say hello."}]


@pytest.fixture(scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    port = free_port()
    model = parts.model_server(tmp_path_factory.mktemp("model"), port)
    await model.start()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        yield client
    await model.stop()


async def test_the_model_has_its_name(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/models")

    assert [model["id"] for model in response.json()["data"]] == ["smollm2-135m"]


async def test_stream_ends_with_finish_reason_usage_and_done(client: httpx.AsyncClient) -> None:
    body = {
        "model": "smollm2-135m",
        "messages": QUESTION,
        "max_tokens": 8,
        "stream": True,
        "stream_options": {"include_usage": True},
    }

    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        lines = [line.removeprefix("data: ") async for line in response.aiter_lines() if line]

    assert lines[-1] == "[DONE]"
    chunks = [orjson.loads(line) for line in lines[:-1]]
    reasons = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]]
    assert reasons[-1] in {"stop", "length"}
    assert chunks[-1]["usage"]["completion_tokens"] > 0


async def test_json_schema_holds_the_model_to_the_shape(client: httpx.AsyncClient) -> None:
    schema = {
        "type": "object",
        "properties": {"reasoning": {"type": "string", "maxLength": 40}, "score": {"enum": [0, 0.5, 1]}},
        "required": ["reasoning", "score"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "score", "strict": True, "schema": schema}}

    # As in a judge's first try. At a higher temperature, 7 of 150 answers were emoji; forty of them exceed max_tokens.
    body = {"messages": QUESTION, "max_tokens": 100, "temperature": 0, "response_format": wanted}

    response = await client.post("/v1/chat/completions", json=body)

    answer = orjson.loads(response.json()["choices"][0]["message"]["content"])
    assert set(answer) == {"reasoning", "score"}
    assert answer["score"] in {0, 0.5, 1}


async def test_health_is_answered_while_streams_are_open(client: httpx.AsyncClient) -> None:
    body = {"messages": QUESTION, "max_tokens": 400, "stream": True}

    async with (
        client.stream("POST", "/v1/chat/completions", json=body) as first,
        client.stream("POST", "/v1/chat/completions", json=body) as second,
    ):
        health = await client.get("/health", timeout=2)

    assert (first.status_code, second.status_code, health.status_code) == (200, 200, 200)


async def test_a_taken_port_ends_the_server(client: httpx.AsyncClient, tmp_path: Path) -> None:
    assert client.base_url.port is not None
    second = parts.model_server(tmp_path, client.base_url.port)

    await second.child.start()

    with pytest.raises(ChildDiedError, match="model ended with exit code 1"):
        await second.child.watch()
