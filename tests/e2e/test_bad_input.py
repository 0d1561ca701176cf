"""Invalid requests are rejected with the field's name, and leave nothing stored."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from mesh_common.ids import new_id
from mesh_dev.mesh_client import API
from mesh_dev.stack import Stack
from support.api import User
from support.ids import SOME_ID

CHAT = f"{API}/chatbot/chat/stream"
MAX_BODY_BYTES = 1_048_576
LONE_SURROGATE = b'{"message": "a \\ud800 b"}'


@pytest.mark.parametrize("path", ["/chatbot/chat", "/chatbot/chat/stream", "/threads/{id}/runs/stream"])
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"message": ""}, "message"),
        ({"message": "x" * 32_001}, "message"),
        ({"message": "a\x00b"}, "message"),
        ({"message": 7}, "message"),
        ({"message": ["hello"]}, "message"),
        ({"message": None}, "message"),
        ({}, "message"),
        ({"message": "hello", "model": "gpt-99"}, "model"),
        ({"message": "hello", "model": ""}, "model"),
        ({"message": "hello", "metadata": {"key": 1}}, "metadata.key"),
        ({"message": "hello", "metadata": {"key": "a\x00"}}, "metadata.key"),
        ({"message": "hello", "metadata": {str(number): "" for number in range(17)}}, "metadata"),
    ],
)
async def test_bad_body_is_refused_by_field(user: User, path: str, body: Mapping[str, Any], field: str) -> None:
    thread_id = await user.new_thread()

    response = await user.post(path.format(id=thread_id), body)

    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert [error["field"] for error in response.json()["errors"]] == [field]
    assert await user.messages(thread_id) == []
    assert [thread["id"] for thread in await user.items("/threads")] == [thread_id]


@pytest.mark.parametrize("body", [LONE_SURROGATE, b"", b"{", b"null", b"[]", b'"message"', b"\xff\xfe"])
async def test_body_that_is_no_message_is_refused(user: User, body: bytes) -> None:
    response = await user.http.post(CHAT, content=body, headers={"content-type": "application/json"})

    assert response.status_code == 422, response.text
    assert response.json()["errors"]
    assert await user.items("/threads") == []


async def test_message_of_the_greatest_length_is_taken(user: User) -> None:
    # Few tokens for many characters, so that the window contains the whole message.
    turn = await user.chat("[[sim:reply=Long.]]".ljust(32_000))

    assert turn.text == "Long."


@pytest.mark.parametrize(
    "path",
    [
        "/threads/{id}",
        "/threads/{id}/messages",
        "/threads/{id}/runs",
        "/runs/{id}",
        "/runs/{id}/events",
        "/runs/{id}/scores",
        "/memories/{id}",
    ],
)
@pytest.mark.parametrize("bad_id", ["1", "not-a-uuid", "00000000-0000-0000-0000-00000000000g", "%00"])
async def test_malformed_id_is_refused(user: User, path: str, bad_id: str) -> None:
    response = await user.get(path.format(id=bad_id))

    assert response.status_code == 422, response.text


async def test_malformed_thread_of_a_chat_is_refused(user: User) -> None:
    response = await user.post("/chatbot/chat", {"message": "hello", "thread_id": "7"})

    assert response.status_code == 422
    assert [error["field"] for error in response.json()["errors"]] == ["thread_id"]


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 101}, {"limit": "many"}, {"cursor": "nonsense"}])
async def test_bad_page_is_refused(user: User, query: dict[str, str | int]) -> None:
    response = await user.get("/threads", **query)

    assert response.status_code == 422, response.text


async def test_body_over_the_limit_is_refused(user: User) -> None:
    response = await user.http.post(CHAT, json={"message": "x" * MAX_BODY_BYTES})

    assert response.status_code == 413, response.text
    assert response.headers["content-type"] == "application/problem+json"


async def test_body_over_the_limit_is_refused_without_a_content_length(user: User) -> None:
    async def chunks() -> Any:
        for _ in range(20):
            yield b"x" * 65_536

    response = await user.http.post(CHAT, content=chunks(), headers={"content-type": "application/json"})

    assert response.status_code == 413, response.text


@pytest.mark.parametrize(
    "headers",
    [{f"x-{number}": "1" for number in range(150)}, {"x-large": "x" * 40_000}],
    ids=["too many", "too large"],
)
async def test_too_many_or_too_large_headers_are_refused(user: User, headers: dict[str, str]) -> None:
    response = await user.http.get(f"{API}/auth/me", headers=headers)

    assert response.status_code == 431
    assert response.headers["content-type"] == "application/problem+json"


async def test_headers_beyond_all_bounds_do_not_hurt_the_gateway(stack: Stack, user: User) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", stack.ports.gateway().api)
    writer.write(b"GET /api/v1/auth/me HTTP/1.1\r\nhost: mesh\r\nx-large: " + b"x" * 2_000_000 + b"\r\n\r\n")
    status_line = await reader.readline()
    writer.close()

    assert status_line.split()[1] in (b"400", b"431")
    assert (await user.get("/auth/me")).status_code == 200


async def test_unknown_route_and_method_are_problems(user: User) -> None:
    missing = await user.get("/nothing/here")
    wrong = await user.http.put(f"{API}/threads", json={})

    assert (missing.status_code, wrong.status_code) == (404, 405)
    assert missing.json()["reason"] == "ROUTE_NOT_FOUND"
    assert wrong.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("key", ["", "x" * 256, "x" * 10_000, "ключ"])
async def test_bad_idempotency_key_is_refused(user: User, key: str) -> None:
    headers = [(b"idempotency-key", key.encode())]

    response = await user.http.post(CHAT, json={"message": "hello"}, headers=headers)

    assert response.status_code == 422, response.text


@pytest.mark.parametrize("position", ["nonsense", "1:2:3", f"{SOME_ID}:1", f"{SOME_ID}:1:99999999999"])
async def test_bad_last_event_id_is_refused(user: User, position: str) -> None:
    response = await user.post("/chatbot/chat/stream", {"message": "hello"}, last_event_id=position)

    assert response.status_code == 422, response.text
    assert await user.items("/threads") == []


@pytest.mark.parametrize("position", ["nonsense", "1:2:3", f"{SOME_ID}:1", f"{SOME_ID}:1:99999999999"])
async def test_bad_position_in_the_address_is_refused(user: User, position: str) -> None:
    turn = await user.chat("Hello.")

    response = await user.get(f"/runs/{turn.run_id}/events", last_event_id=position)

    assert response.status_code == 422, response.text
    assert [error["field"] for error in response.json()["errors"]] == ["last_event_id"]


async def test_position_of_another_run_is_refused(user: User) -> None:
    one, other = await user.chat("One."), await user.chat("Two.")
    path = f"{API}/runs/{one.run_id}/events"

    by_header = await user.http.get(path, headers={"last-event-id": other.last.id})
    by_address = await user.http.get(path, params={"last_event_id": other.last.id})

    for response in (by_header, by_address):
        assert (response.status_code, response.json()["reason"]) == (409, "EVENT_OF_OTHER_RUN")


@pytest.mark.parametrize("path", ["/runs", "/runs/stream", "/runs/wait"])
@pytest.mark.parametrize("multitask", ["merge", "INTERRUPT", "", 1, None])
async def test_unknown_strategy_is_refused(user: User, path: str, multitask: object) -> None:
    thread_id = await user.new_thread()

    response = await user.post(f"/threads/{thread_id}{path}", {"message": "hello", "multitask": multitask})

    assert response.status_code == 422, response.text
    assert [error["field"] for error in response.json()["errors"]] == ["multitask"]
    assert await user.messages(thread_id) == []


@pytest.mark.parametrize("query", [{"status": "sleeping"}, {"status": ""}, {"status": "RUNNING"}])
async def test_unknown_status_is_refused(user: User, query: dict[str, str]) -> None:
    response = await user.get(f"/threads/{await user.new_thread()}/runs", **query)

    assert response.status_code == 422, response.text


@pytest.mark.parametrize("wait_s", ["-1", "61", "nan", "soon"])
async def test_wait_out_of_bounds_is_refused(user: User, wait_s: str) -> None:
    response = await user.get(f"/runs/{new_id()}", wait_s=wait_s)

    assert response.status_code == 422, response.text


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/events"), ("GET", "?wait_s=5"), ("POST", "/cancel"), ("POST", "/ticket")]
)
async def test_run_that_never_was_is_not_found(user: User, method: str, path: str) -> None:
    response = await user.http.request(method, f"{API}/runs/{new_id()}{path}")

    assert (response.status_code, response.json()["reason"]) == (404, "NOT_FOUND")


async def test_second_cancel_changes_nothing(user: User) -> None:
    thread_id = await user.new_thread()
    body = {"message": "[[sim:itl=100]] [[sim:tokens=500]]"}
    run_id = (await user.post(f"/threads/{thread_id}/runs", body)).json()["run_id"]
    first = await user.post(f"/runs/{run_id}/cancel")
    ended = await user.get(f"/runs/{run_id}", wait_s=20)
    messages = await user.messages(thread_id)

    second = await user.post(f"/runs/{run_id}/cancel")

    assert (first.status_code, second.status_code) == (200, 200)
    assert second.json()["status"] == "cancelled"
    assert (await user.get(f"/runs/{run_id}")).json() == ended.json()
    assert await user.messages(thread_id) == messages


async def test_cancel_of_a_run_that_has_ended_changes_nothing(user: User) -> None:
    turn = await user.chat("Hello.")
    before = (await user.get(f"/runs/{turn.run_id}")).json()

    response = await user.post(f"/runs/{turn.run_id}/cancel")

    assert response.status_code == 200
    assert (await user.get(f"/runs/{turn.run_id}")).json() == before
