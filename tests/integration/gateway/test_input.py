"""Invalid input is rejected with the right status and the field's name, and is not echoed."""

import asyncio
import unicodedata
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

import httpx
import orjson
import pytest
from mesh_common.ids import new_id
from mesh_dev.valkey import EmbeddedValkey
from support.gateway import Client, FakeMesh, running_gateway

CHAT = "/api/v1/chatbot/chat"
STREAM = "/api/v1/chatbot/chat/stream"


@pytest.mark.parametrize("path", [CHAT, STREAM])
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"message": ""}, "message"),
        ({"message": "a" * 32_001}, "message"),
        ({"message": "a\x00b"}, "message"),
        ({"message": 7}, "message"),
        ({}, "message"),
        ({"message": "Hi", "thread_id": "7"}, "thread_id"),
        ({"message": "Hi", "thread_id": "\x00"}, "thread_id"),
        ({"message": "Hi", "model": "a\x00"}, "model"),
        ({"message": "Hi", "metadata": {str(number): "" for number in range(17)}}, "metadata"),
        ({"message": "Hi", "metadata": {"k": "v" * 513}}, "metadata.k"),
        ({"message": "Hi", "metadata": {"k" * 65: "v"}}, f"metadata.{'k' * 65}.[key]"),
        ({"message": "Hi", "metadata": {"k": 1}}, "metadata.k"),
        ([], "body"),
    ],
)
async def test_bad_body_is_422_naming_the_field_and_starts_nothing(
    gateway: Client, path: str, body: Any, field: str
) -> None:
    response = await gateway.http.post(path, json=body, headers=gateway.as_user())

    problem = response.json()
    assert response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert response.headers["content-type"] == "application/problem+json"
    assert [fault["field"] for fault in problem["errors"]] == [field]
    assert gateway.mesh.agent.started == []


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (b'{"message": "\\ud800"}', "message"),
        (b'{"message": "Hi", "metadata": {"\\ud800": "v"}}', "metadata.\ufffd\ufffd\ufffd.[key]"),
        (b'{"message": "Hi", "metadata": {"k": "\\udfff"}}', "metadata.k"),
        (b'{"message": "Hi", "thread_id": "\\ud800"}', "thread_id"),
        (b'{"message": ', "body"),
        (b'{"message": "\xff\xfe"}', "body"),
        (b"[" * 100_000, "body"),
        (b'{"message": ' + b"9" * 5_000 + b"}", "body"),
        (b"", "body"),
    ],
)
async def test_text_that_is_no_text_is_422(gateway: Client, content: bytes, field: str) -> None:
    headers = {**gateway.as_user(), "Content-Type": "application/json"}

    response = await gateway.http.post(CHAT, content=content, headers=headers)

    assert response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert response.json()["errors"][0]["field"] == field


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({"message": ""}, "should not be empty"),
        ({"message": "a" * 32_001}, "is longer than 32000 characters"),
        ({}, "is required"),
        ({"message": "Hi", "metadata": {str(number): "" for number in range(17)}}, "has more than 16 entries"),
    ],
)
async def test_complaints_are_plain_english(gateway: Client, body: Any, complaint: str) -> None:
    response = await gateway.http.post(CHAT, json=body, headers=gateway.as_user())

    problem = response.json()
    assert [fault["message"] for fault in problem["errors"]] == [complaint]
    assert problem["detail"] == f"{problem['errors'][0]['field']}: {complaint}"


async def test_documented_example_of_a_complaint_is_what_is_sent(gateway: Client) -> None:
    document = (await gateway.http.get("/openapi.json")).json()
    answers = document["paths"][CHAT]["post"]["responses"]
    example = answers["422"]["content"]["application/problem+json"]["example"]

    problem = (await gateway.http.post(CHAT, json={"message": ""}, headers=gateway.as_user())).json()

    assert problem | {"trace_id": ""} == example | {"trace_id": ""}


async def test_complaints_about_accounts_headers_and_months_are_plain_english(gateway: Client) -> None:
    user = gateway.as_user()
    answers = (
        await gateway.http.post("/api/v1/auth/register", json={"email": "a@b.de", "password": "short"}),
        await gateway.http.post(CHAT, json={"message": "Hi"}, headers={**user, "Idempotency-Key": "a b"}),
        await gateway.http.get("/api/v1/usage?month=2026-13", headers=user),
    )

    assert [response.json()["errors"][0]["message"] for response in answers] == [
        "needs at least 15 characters",
        "must be 1 to 255 visible ASCII characters",
        "must be YYYY-MM",
    ]


@pytest.mark.parametrize("blank", ["\u200b", "\u3164", " \u2060\ufeff\n", "\u2800", "\U000e0020", " "])
async def test_text_that_nobody_can_see_is_empty(gateway: Client, blank: str) -> None:
    user = gateway.as_user()
    thread = (await gateway.http.post("/api/v1/threads", json={"title": ""}, headers=user)).json()["id"]

    for method, path, body in (
        ("POST", CHAT, {"message": blank}),
        ("POST", STREAM, {"message": blank}),
        ("POST", f"/api/v1/threads/{thread}/runs", {"message": blank}),
        ("POST", "/api/v1/threads", {"title": blank}),
        ("PATCH", f"/api/v1/threads/{thread}", {"title": blank}),
        ("POST", "/api/v1/memories", {"text": blank}),
        ("POST", "/api/v1/memories/search", {"query": blank}),
    ):
        response = await gateway.http.request(method, path, json=body, headers=user)

        assert (response.status_code, response.json()["errors"][0]["message"]) == (422, "should not be empty"), path
    assert gateway.mesh.agent.started == []


async def test_invisible_characters_between_others_are_kept(gateway: Client) -> None:
    title = "\u200b\U0001f469\u200d\U0001f680"

    response = await gateway.http.post("/api/v1/threads", json={"title": title}, headers=gateway.as_user())

    assert response.json()["title"] == title


@pytest.mark.parametrize("word", ["한글", "é", "Å", "ệ"])
async def test_title_is_found_however_its_letters_are_composed(gateway: Client, word: str) -> None:
    forms = [unicodedata.normalize(form, word) for form in ("NFC", "NFD")]
    user = gateway.as_user()
    for form in forms:
        await gateway.http.post("/api/v1/threads", json={"title": f"a {form} z"}, headers=user)

    found = [await gateway.http.get("/api/v1/threads", params={"query": form}, headers=user) for form in forms]

    assert [len(response.json()["items"]) for response in found] == [2, 2]
    assert {one["title"] for response in found for one in response.json()["items"]} == {f"a {forms[0]} z"}


async def test_title_is_measured_as_it_is_stored(gateway: Client) -> None:
    title = unicodedata.normalize("NFD", "한" * 200)

    response = await gateway.http.post("/api/v1/threads", json={"title": title}, headers=gateway.as_user())

    assert response.status_code == HTTPStatus.CREATED


async def test_largest_message_is_taken(gateway: Client) -> None:
    response = await gateway.http.post(CHAT, json={"message": "é" * 32_000}, headers=gateway.as_user())

    assert response.status_code == HTTPStatus.OK


@pytest.mark.parametrize("key", ["", "k" * 256, "a b", "é".encode()])
async def test_bad_idempotency_key_is_422(gateway: Client, key: str | bytes) -> None:
    headers = {**gateway.as_user(), "Idempotency-Key": key}

    response = await gateway.http.post(CHAT, json={"message": "Hi"}, headers=headers)  # type: ignore[arg-type]

    assert response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert response.json()["errors"][0]["field"].lower() == "idempotency-key"


@pytest.mark.parametrize(
    "path",
    ["threads/7", "threads/7/messages", "threads/7/runs", "runs/7", "runs/7/events", "runs/7/scores", "memories/7"],
)
async def test_malformed_id_is_422(gateway: Client, path: str) -> None:
    response = await gateway.http.get(f"/api/v1/{path}", headers=gateway.as_user())

    assert response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert response.json()["errors"][0]["message"] == "is not a UUID"


@pytest.mark.parametrize(
    "path", ["threads/{id}", "threads/{id}/messages", "threads/{id}/runs", "runs/{id}", "memories/{id}"]
)
async def test_unknown_id_is_404(gateway: Client, path: str) -> None:
    response = await gateway.http.get(f"/api/v1/{path.format(id=new_id())}", headers=gateway.as_user())

    assert (response.status_code, response.json()["reason"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "cursor=", "cursor=%00", "cursor=bad"])
async def test_bad_page_is_422(gateway: Client, query: str) -> None:
    response = await gateway.http.get(f"/api/v1/threads?{query}", headers=gateway.as_user())

    assert response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert response.json()["errors"][0]["field"] in query


async def test_unknown_route_and_method_are_problems(gateway: Client) -> None:
    missing = await gateway.http.get("/api/v1/nothing")
    method = await gateway.http.put("/api/v1/threads", headers=gateway.as_user())

    assert (missing.status_code, missing.json()["reason"]) == (404, "ROUTE_NOT_FOUND")
    assert (method.status_code, method.json()["reason"]) == (405, "METHOD_NOT_ALLOWED")
    assert {missing.headers["content-type"], method.headers["content-type"]} == {"application/problem+json"}


@pytest.fixture(scope="module")
async def strict(session_mesh: FakeMesh, valkey: EmbeddedValkey) -> AsyncIterator[Client]:
    bounds = {"max_body_bytes": 2_000, "max_headers": 20, "max_header_bytes": 4_000, "body_timeout_s": 0.2}
    async with running_gateway(session_mesh, valkey.url, **bounds) as client:
        yield client


async def test_large_body_is_413(strict: Client) -> None:
    response = await strict.http.post(CHAT, json={"message": "a" * 3_000}, headers=strict.as_user())

    assert (response.status_code, response.json()["reason"]) == (413, "TOO_LARGE")


async def test_large_chunked_body_is_413(strict: Client) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b"a" * 100

    headers = {**strict.as_user(), "Content-Type": "application/json"}

    response = await strict.http.post(CHAT, content=chunks(), headers=headers)

    assert (response.status_code, response.json()["reason"]) == (413, "TOO_LARGE")


async def test_large_form_is_413(strict: Client) -> None:
    response = await strict.http.post("/api/v1/auth/login", data={"username": "a" * 3_000, "password": "b"})

    assert response.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE


@pytest.mark.parametrize(
    "headers", [{f"X-{number}": "" for number in range(25)}, {"X-Large": "a" * 5_000}], ids=["many", "large"]
)
async def test_too_many_or_too_large_headers_are_431(strict: Client, headers: dict[str, str]) -> None:
    response = await strict.http.get("/healthz", headers=headers)

    assert (response.status_code, response.json()["reason"]) == (431, "HEADERS_TOO_LARGE")


async def test_long_address_is_414(strict: Client) -> None:
    response = await strict.http.get(f"/api/v1/threads?query={'a' * 9_000}", headers=strict.as_user())

    assert response.status_code == HTTPStatus.REQUEST_URI_TOO_LONG


async def test_body_that_never_ends_is_408(strict: Client) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", strict.process.port)
    token = strict.as_user()["Authorization"]
    writer.write(
        f"POST {CHAT} HTTP/1.1\r\nHost: mesh\r\nAuthorization: {token}\r\n"
        "Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{".encode()
    )
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()

    head, _, problem = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in head.lower()
    assert orjson.loads(problem)["reason"] == "REQUEST_TIMEOUT"


async def test_body_that_trickles_is_408_at_the_same_time(strict: Client) -> None:
    async def trickle(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b" ")
            await asyncio.sleep(0.02)

    reader, writer = await asyncio.open_connection("127.0.0.1", strict.process.port)
    token = strict.as_user()["Authorization"]
    writer.write(
        f"POST {CHAT} HTTP/1.1\r\nHost: mesh\r\nAuthorization: {token}\r\n"
        "Content-Type: application/json\r\nContent-Length: 1900\r\n\r\n".encode()
    )
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        trickling = group.create_task(trickle(writer))
        status = await reader.readline()
        trickling.cancel()
    writer.close()

    assert status.startswith(b"HTTP/1.1 408")


async def test_large_body_that_arrives_at_the_least_rate_is_given_time(mesh: FakeMesh, valkey: EmbeddedValkey) -> None:
    message = orjson.dumps({"message": "a" * 3_000})

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(message), 200):
            yield message[start : start + 200]
            await asyncio.sleep(0.05)

    async with running_gateway(mesh, valkey.url, body_timeout_s=0.5, min_body_bytes_per_s=200) as gateway:
        headers = {**gateway.as_user(), "Content-Type": "application/json"}
        response = await gateway.http.post(CHAT, content=chunks(), headers=headers)

    assert response.status_code == HTTPStatus.OK


async def test_crash_behind_the_gateway_is_500_without_its_text(gateway: Client) -> None:
    gateway.mesh.agent.error = ZeroDivisionError("secret of the inside")

    response = await gateway.http.post(CHAT, json={"message": "Hi"}, headers=gateway.as_user())

    assert response.status_code == HTTPStatus.INTERNAL_SERVER_ERROR
    assert response.json()["trace_id"] == response.headers["x-trace-id"]
    assert "secret" not in response.text


async def test_answers_have_security_headers_and_no_server_name(gateway: Client) -> None:
    response: httpx.Response = await gateway.http.get("/api/v1/models", headers=gateway.as_user())

    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-store"
    assert "server" not in response.headers
