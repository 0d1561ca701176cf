"""The HTTP layer and the admin API from a client's point of view."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from simulator import reply_text
from simulator.client import SimulatorAdmin
from simulator.rules import Action, Match, Rule

BODY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


async def exchange(base_url: str, *pieces: bytes) -> bytes:
    """Sends raw pieces one by one and reads until the server closes."""
    host, _, port = base_url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def post(body: bytes, *headers: str) -> bytes:
    lines = ["POST /v1/chat/completions HTTP/1.1", "host: sim", f"content-length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def test_requests_sent_ahead_are_answered_in_order(base_url: str) -> None:
    bodies = [
        json.dumps(BODY | {"messages": [{"role": "user", "content": f"[[sim:reply=answer {i}]]"}]}) for i in range(3)
    ]
    requests = [post(bodies[0].encode()), post(bodies[1].encode()), post(bodies[2].encode(), "connection: close")]

    answer = await exchange(base_url, b"".join(requests))

    positions = [answer.index(f"answer {i}".encode()) for i in range(3)]
    assert positions == sorted(positions)
    assert answer.count(b"HTTP/1.1 200 OK") == 3


async def test_a_request_may_arrive_in_pieces(base_url: str) -> None:
    whole = post(json.dumps(BODY).encode(), "connection: close")

    answer = await exchange(base_url, whole[:10], whole[10:70], whole[70:-5], whole[-5:])

    assert answer.startswith(b"HTTP/1.1 200 OK")


async def test_a_client_that_asks_before_sending_is_told_to_go_on(base_url: str) -> None:
    whole = post(json.dumps(BODY).encode(), "connection: close", "expect: 100-continue")

    answer = await exchange(base_url, whole)

    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"no http\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/1.1\r\nlong: " + b"x" * 70_000 + b"\r\n\r\n", b"431"),
    ],
)
async def test_what_is_no_http_is_refused(base_url: str, sent: bytes, status: bytes) -> None:
    assert (await exchange(base_url, sent)).startswith(b"HTTP/1.1 " + status)


async def test_a_body_over_the_limit_gets_413(open_with: Any) -> None:
    async with open_with(max_body_bytes=1024) as url:
        answer = await exchange(url, post(b"x" * 2000))

    assert answer.startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b"[]",
        b"{}",
        b'{"model": "m"}',
        b'{"model": "m", "messages": []}',
        b'{"model": "m", "messages": ["x"]}',
        b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "n": 2}',
        b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 0}',
        b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "response_format": {"type": "json_schema"}}',
        b'{"model": "m", "messages": [{"role": "user", "content": "[[sim:nonsense]]"}]}',
    ],
)
async def test_an_invalid_chat_request_gets_400_in_openais_shape(http: httpx.AsyncClient, body: bytes) -> None:
    response = await http.post("/v1/chat/completions", content=body)

    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "fields",
    [
        {"input": ""},
        {"input": []},
        {"input": [1.5]},
        {"input": "x", "dimensions": 0},
        {"input": "x", "encoding_format": "hex"},
    ],
)
async def test_an_invalid_embedding_request_gets_400(http: httpx.AsyncClient, fields: dict[str, Any]) -> None:
    assert (await http.post("/v1/embeddings", json={"model": "e"} | fields)).status_code == 400


async def test_unknown_paths_and_methods_are_refused(http: httpx.AsyncClient) -> None:
    assert (await http.get("/nowhere")).status_code == 404
    assert (await http.get("/v1/chat/completions")).status_code == 405
    assert (await http.get("/healthz")).json() == {"status": "ok"}


async def test_unknown_fields_are_ignored(http: httpx.AsyncClient) -> None:
    assert (await http.post("/v1/chat/completions", json=BODY | {"store": True, "x": [1]})).status_code == 200


@pytest.mark.parametrize(
    ("headers", "fields", "key"),
    [
        ({"x-sim-key": "h"}, {"user": "u"}, "h"),
        ({}, {"metadata": {"sim_key": "m"}, "user": "u"}, "m"),
        ({}, {"metadata": {"run_id": "r"}}, "r"),
        ({}, {"user": "u"}, "u"),
    ],
)
async def test_tokens_count_by_the_key_of_the_request(
    http: httpx.AsyncClient, admin: SimulatorAdmin, headers: dict[str, str], fields: dict[str, Any], key: str
) -> None:
    for _ in range(2):
        await http.post("/v1/chat/completions", json=BODY | fields, headers=headers)

    stats = await admin.stats()
    assert (stats["tokens_by_key"], stats["requests_by_key"]) == ({key: 20}, {key: 2})


async def test_requests_are_kept_with_body_and_outcome(http: httpx.AsyncClient, admin: SimulatorAdmin) -> None:
    await http.post("/v1/chat/completions", json=BODY)
    await http.post("/v1/embeddings", json={"model": "e", "input": "cat"})

    chat, embedding = await admin.requests()

    assert (chat["body"], chat["outcome"], chat["tokens"]) == (BODY, "completed", 10)
    assert chat["reply"] == reply_text(seed=1, model="m", user_message="Hi", tokens=10)
    assert chat["received_at_s"] <= chat["ended_at_s"]
    assert (embedding["kind"], embedding["model"]) == ("embeddings", "e")
    assert await admin.requests(limit=1) == [embedding]


async def test_rules_may_be_put_seen_and_cleared(http: httpx.AsyncClient, admin: SimulatorAdmin) -> None:
    await admin.put_rules([Rule(match=Match(contains="Hi"), action=Action(reply="Ho"))])
    ruled = (await http.post("/v1/chat/completions", json=BODY)).json()
    seen = await admin.rules()

    await admin.clear_rules()

    plain = (await http.post("/v1/chat/completions", json=BODY)).json()
    assert ruled["choices"][0]["message"]["content"] == "Ho"
    assert seen == [{"match": {"contains": "Hi"}, "action": {"reply": "Ho"}, "hits": 1}]
    assert plain["choices"][0]["message"]["content"] != "Ho"


async def test_invalid_rules_are_refused(admin: SimulatorAdmin) -> None:
    with pytest.raises(httpx.HTTPStatusError, match="422"):
        await admin.put_rules([{"action": {"fault": "teapot"}}])


async def test_a_rule_may_fail_embeddings_only(http: httpx.AsyncClient, admin: SimulatorAdmin) -> None:
    await admin.put_rules([{"match": {"kind": "embeddings"}, "action": {"fault": "503"}}])

    assert (await http.post("/v1/embeddings", json={"model": "e", "input": "cat"})).status_code == 503
    assert (await http.post("/v1/chat/completions", json=BODY)).status_code == 200


async def test_reset_forgets_rules_and_counts(http: httpx.AsyncClient, admin: SimulatorAdmin) -> None:
    await admin.put_rules([{"action": {"reply": "Ho"}}])
    await http.post("/v1/chat/completions", json=BODY)

    await admin.reset()

    stats = await admin.stats()
    assert (stats["requests"], stats["tokens"], await admin.requests(), await admin.rules()) == ({}, 0, [], [])


async def test_echo_and_prompt_repeat_what_was_said(http: httpx.AsyncClient) -> None:
    system = {"role": "system", "content": "You know: Miso is a cat."}
    answers = []
    for content in ("[[sim:echo]] marker 4711", "[[sim:prompt]]"):
        body = {"model": "m", "messages": [system, {"role": "user", "content": content}]}
        answers.append((await http.post("/v1/chat/completions", json=body)).json()["choices"][0]["message"]["content"])

    assert answers == ["[[sim:echo]] marker 4711", "You know: Miso is a cat."]
