"""Methods and media types: what every path answers, whatever its route takes."""

import asyncio

import httpx
import pytest
from fakes.gateway.fake_runs import answer_begin
from mesh_dev.valkey import EmbeddedValkey
from support.gateway import Client, FakeMesh, running_gateway

CHAT = "/api/v1/chatbot/chat"
STREAM = "/api/v1/chatbot/chat/stream"
LOGIN = "/api/v1/auth/login"
THREADS = "/api/v1/threads"
ID = "0199f0c4-2222-7c3a-8f11-3a4b5c6d7e8f"
READABLE = ("/healthz", "/readyz", "/openapi.json", "/.well-known/jwks.json", "/.well-known/openid-configuration")


def _allowed(response: httpx.Response) -> set[str]:
    return set(response.headers["allow"].split(", "))


@pytest.mark.parametrize("path", [*READABLE, THREADS, "/api/v1/memories", "/api/v1/models", "/api/v1/auth/me"])
async def test_head_is_get_without_a_body(gateway: Client, path: str) -> None:
    user = gateway.as_user()

    head = await gateway.http.head(path, headers=user)
    get = await gateway.http.get(path, headers=user)

    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["content-length"] == get.headers["content-length"]
    assert head.headers["content-type"] == get.headers["content-type"]


async def test_head_reports_what_get_would_refuse(gateway: Client) -> None:
    answers = [
        await gateway.http.head(THREADS),
        await gateway.http.head(f"{THREADS}/{ID}", headers=gateway.as_user()),
        await gateway.http.head("/api/v1/nothing"),
        await gateway.http.head(CHAT),
    ]

    assert [answer.status_code for answer in answers] == [401, 404, 404, 405]
    assert {answer.content for answer in answers} == {b""}


async def test_head_of_an_open_stream_ends_and_leaves_the_slot(mesh: FakeMesh, valkey: EmbeddedValkey) -> None:
    mesh.agent.plan = answer_begin
    async with running_gateway(mesh, valkey.url, max_open_streams=1) as gateway, asyncio.timeout(10):
        user = gateway.as_user()
        async with gateway.http.stream("POST", STREAM, json={"message": "Hi"}, headers=user) as response:
            run = response.headers["location"]
        head = await gateway.http.head(f"{run}/events", headers=user)
        again = await gateway.http.head(f"{run}/events", headers=user)

    assert [head.status_code, again.status_code] == [200, 200]
    assert head.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/healthz", {"GET", "HEAD"}),
        (THREADS, {"GET", "HEAD", "POST"}),
        (f"{THREADS}/{ID}", {"GET", "HEAD", "PATCH", "DELETE"}),
        ("/api/v1/memories", {"GET", "HEAD", "POST", "DELETE"}),
        ("/api/v1/memories/search", {"POST"}),
        (f"/api/v1/memories/{ID}", {"GET", "HEAD", "PATCH", "DELETE"}),
        (f"{THREADS}/{ID}/runs/stream", {"POST"}),
        (CHAT, {"POST"}),
    ],
)
async def test_allow_names_every_method_of_the_path(gateway: Client, path: str, methods: set[str]) -> None:
    asked = await gateway.http.options(path)
    refused = await gateway.http.put(path, json={}, headers=gateway.as_user())

    assert (asked.status_code, asked.content) == (204, b"")
    assert (refused.status_code, refused.json()["reason"]) == (405, "METHOD_NOT_ALLOWED")
    assert _allowed(asked) == _allowed(refused) == methods | {"OPTIONS"}


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
async def test_method_that_only_another_path_takes_is_405(gateway: Client, method: str) -> None:
    response = await gateway.http.request(method, "/api/v1/memories/search", headers=gateway.as_user())

    assert (response.status_code, _allowed(response)) == (405, {"POST", "OPTIONS"})


async def test_options_of_nothing_is_404(gateway: Client) -> None:
    response = await gateway.http.options("/api/v1/nothing")

    assert (response.status_code, response.json()["reason"]) == (404, "ROUTE_NOT_FOUND")


@pytest.mark.parametrize("path", [f"{THREADS}/", "/healthz/", f"{THREADS}/{ID}/", "/api/v1/auth/me/", f"{CHAT}/"])
async def test_trailing_slash_is_404_without_a_redirect(gateway: Client, path: str) -> None:
    for method in ("GET", "POST"):
        response = await gateway.http.request(method, path, headers=gateway.as_user())

        assert (response.status_code, response.json()["reason"]) == (404, "ROUTE_NOT_FOUND")


@pytest.mark.parametrize("media_type", [None, "text/plain", "application/x-www-form-urlencoded", "text/json", ";"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", CHAT),
        ("POST", STREAM),
        ("POST", THREADS),
        ("PATCH", f"{THREADS}/{ID}"),
        ("POST", f"{THREADS}/{ID}/runs"),
        ("POST", "/api/v1/memories"),
        ("POST", "/api/v1/memories/search"),
        ("POST", "/api/v1/auth/refresh"),
    ],
)
async def test_body_that_is_not_called_json_is_415(
    gateway: Client, method: str, path: str, media_type: str | None
) -> None:
    headers = gateway.as_user() | ({"Content-Type": media_type} if media_type else {})

    response = await gateway.http.request(method, path, content=b'{"message": "Hi"}', headers=headers)

    assert (response.status_code, response.json()["reason"]) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert response.headers["accept"] == "application/json"


@pytest.mark.parametrize(
    "media_type", ["application/json; charset=utf-8", "application/JSON", "application/merge-patch+json"]
)
async def test_every_kind_of_json_is_taken(gateway: Client, media_type: str) -> None:
    headers = {**gateway.as_user(), "Content-Type": media_type}

    response = await gateway.http.post(CHAT, content=b'{"message": "Hi"}', headers=headers)

    assert response.status_code == 200


async def test_login_takes_forms_only(gateway: Client) -> None:
    body = {"username": f"{ID}@example.com", "password": "wrong horse battery staple"}

    as_json = await gateway.http.post(LOGIN, json=body)
    unnamed = await gateway.http.post(LOGIN, content=b"username=a@b.de&password=c")
    parts = await gateway.http.post(LOGIN, files={name: (None, value) for name, value in body.items()})

    assert [as_json.status_code, unnamed.status_code, parts.status_code] == [415, 415, 401]
    assert as_json.headers["accept"] == "application/x-www-form-urlencoded"


async def test_routes_without_a_body_need_no_media_type(gateway: Client) -> None:
    response = await gateway.http.post(f"/api/v1/runs/{ID}/cancel", headers=gateway.as_user())

    assert response.status_code == 404
