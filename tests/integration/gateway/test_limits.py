"""Rate limits, open streams, and an unavailable Redis."""

from contextlib import AsyncExitStack
from http import HTTPStatus
from typing import Any

import pytest
from fakes.gateway.fake_runs import answer_begin
from mesh_common.errors import RateLimited
from mesh_common.ids import new_id
from mesh_dev.valkey import EmbeddedValkey
from support.gateway import Client, FakeMesh, running_gateway
from support.net import free_port

ID = "0199f0c4-2222-7c3a-8f11-3a4b5c6d7e8f"
CHAT = "/api/v1/chatbot/chat"
STREAM = "/api/v1/chatbot/chat/stream"
LOGIN = "/api/v1/auth/login"


async def _login(gateway: Client, email: str, **headers: str) -> int:
    form = {"username": email, "password": "wrong horse battery staple"}
    return (await gateway.http.post(LOGIN, data=form, headers=headers)).status_code


def _email() -> str:
    return f"{new_id()}@example.com"


async def test_chat_beyond_the_limit_is_429_for_that_user_alone(mesh: FakeMesh, valkey: EmbeddedValkey) -> None:
    async with running_gateway(mesh, valkey.url, chat_limit_per_minute=2) as gateway:
        user = gateway.as_user()
        allowed = [await gateway.http.post(CHAT, json={"message": "Hi"}, headers=user) for _ in range(2)]
        refused = await gateway.http.post(STREAM, json={"message": "Hi"}, headers=user)
        other = await gateway.http.post(CHAT, json={"message": "Hi"}, headers=gateway.as_user())

    assert [response.status_code for response in (*allowed, refused, other)] == [200, 200, 429, 200]
    assert allowed[0].headers["ratelimit-policy"] == '"chat";q=2;w=60'
    assert allowed[0].headers["ratelimit"].startswith('"chat";r=1;t=')
    assert refused.headers["ratelimit"].startswith('"chat";r=0;t=')
    assert 1 <= int(refused.headers["retry-after"]) <= 120
    assert refused.json()["reason"] == "RATE_LIMITED"


@pytest.mark.parametrize(
    ("cost", "requests"),
    [
        (
            "memory",
            [
                ("POST", "/memories", {"text": "a"}),
                ("POST", "/memories/search", {"query": "a"}),
                ("PATCH", f"/memories/{ID}", {"text": "a"}),
            ],
        ),
        (
            "list",
            [
                ("GET", "/threads", None),
                ("GET", f"/threads/{ID}/messages", None),
                ("GET", f"/threads/{ID}/runs", None),
                ("GET", "/memories", None),
                ("GET", f"/runs/{ID}/scores", None),
                ("GET", "/models", None),
                ("GET", "/usage", None),
            ],
        ),
        (
            "write",
            [
                ("POST", "/threads", {}),
                ("PATCH", f"/threads/{ID}", {}),
                ("DELETE", f"/threads/{ID}", None),
                ("DELETE", f"/memories/{ID}", None),
                ("DELETE", "/memories", None),
                ("POST", f"/runs/{ID}/cancel", None),
            ],
        ),
    ],
)
async def test_costly_routes_share_a_limit_of_their_user(
    mesh: FakeMesh, valkey: EmbeddedValkey, cost: str, requests: list[tuple[str, str, object]]
) -> None:
    limit: dict[str, Any] = {f"{cost}_limit_per_minute": len(requests)}
    async with running_gateway(mesh, valkey.url, **limit) as gateway:
        user, other = gateway.as_user(), gateway.as_user()
        allowed, refused = [
            [
                await gateway.http.request(method, f"/api/v1{path}", json=body, headers=user)
                for method, path, body in requests
            ]
            for _ in range(2)
        ]
        method, path, body = requests[0]
        others = await gateway.http.request(method, f"/api/v1{path}", json=body, headers=other)
        run = await gateway.http.post(CHAT, json={"message": "Hi"}, headers=user)

    assert 429 not in {response.status_code for response in allowed}
    assert {response.status_code for response in refused} == {429}
    assert {response.json()["reason"] for response in refused} == {"RATE_LIMITED"}
    assert all(int(response.headers["retry-after"]) >= 1 for response in refused)
    assert others.status_code < 400
    assert run.status_code == 200


async def test_limit_holds_over_all_replicas(mesh: FakeMesh, valkey: EmbeddedValkey) -> None:
    async with (
        running_gateway(mesh, valkey.url, chat_limit_per_minute=1) as first,
        running_gateway(mesh, valkey.url, chat_limit_per_minute=1) as second,
    ):
        user = first.as_user()
        one = await first.http.post(CHAT, json={"message": "Hi"}, headers=user)
        two = await second.http.post(CHAT, json={"message": "Hi"}, headers=user)

    assert (one.status_code, two.status_code) == (200, 429)


async def test_following_a_run_costs_nothing_of_the_chat_limit(mesh: FakeMesh, valkey: EmbeddedValkey) -> None:
    async with running_gateway(mesh, valkey.url, chat_limit_per_minute=1) as gateway:
        user = gateway.as_user()
        run_id = (await gateway.http.post(CHAT, json={"message": "Hi"}, headers=user)).json()["run_id"]
        headers = {**user, "Last-Event-ID": f"{run_id}:1:1"}
        again = [await gateway.http.post(STREAM, json={"message": "Hi"}, headers=headers) for _ in range(3)]

    assert {response.status_code for response in again} == {200}


async def test_auth_hears_the_clients_address_and_limits_by_account(mesh: FakeMesh, valkey: EmbeddedValkey) -> None:
    """The limit of an account is auth's (tests/integration/auth/test_login_limits.py): strangers use up nothing."""
    mesh.auth.client_addresses.clear()
    forwarded = ("198.51.100.7", "198.51.100.8:44310", "[2001:db8:1:2::3]:443")
    email = _email()

    async with running_gateway(mesh, valkey.url, login_limit_per_minute=9, trusted_proxies=["127.0.0.0/8"]) as gateway:
        answers = [await _login(gateway, email, **{"X-Forwarded-For": address}) for address in forwarded]

    assert answers == [401, 401, 401]
    assert mesh.auth.client_addresses == ["198.51.100.7", "198.51.100.8", "2001:db8:1:2::/64"]


async def test_refusal_of_auth_is_429_and_says_when_to_come_back(mesh: FakeMesh, valkey: EmbeddedValkey) -> None:
    mesh.auth.login_refusal = RateLimited("Too many failed logins.", retry_after_s=14.2)
    try:
        async with running_gateway(mesh, valkey.url) as gateway:
            form = {"username": _email(), "password": "wrong horse battery staple"}
            refused = await gateway.http.post(LOGIN, data=form)
    finally:
        mesh.auth.login_refusal = None

    assert (refused.status_code, refused.json()["reason"]) == (429, "RATE_LIMITED")
    assert refused.headers["retry-after"] == "15"


async def test_refresh_is_limited_per_address(mesh: FakeMesh, valkey: EmbeddedValkey) -> None:
    address = {"X-Forwarded-For": f"2001:db8:{new_id().int % 65_000:x}:2::7"}
    elsewhere = {"X-Forwarded-For": f"2001:db9:{new_id().int % 65_000:x}:2::7"}
    settings = {"anonymous_limit_per_minute": 2, "trusted_proxy_hops": 1}

    async with running_gateway(mesh, valkey.url, **settings) as gateway:
        answers = [
            await gateway.http.post("/api/v1/auth/refresh", json={"refresh_token": "made-up"}, headers=headers)
            for headers in (address, address, address, elsewhere)
        ]

    assert [response.status_code for response in answers] == [401, 401, 429, 401]
    assert answers[2].headers["ratelimit-policy"] == '"refresh-address";q=2;w=60'


async def test_login_is_limited_per_address_for_all_accounts(mesh: FakeMesh, valkey: EmbeddedValkey) -> None:
    address = {"X-Forwarded-For": f"2001:db8:{new_id().int % 65_000:x}:1::7"}
    neighbour = {"X-Forwarded-For": address["X-Forwarded-For"].replace("::7", "::8")}

    async with running_gateway(mesh, valkey.url, login_limit_per_minute=2, trusted_proxies=["127.0.0.0/8"]) as gateway:
        answers = [await _login(gateway, _email(), **headers) for headers in (address, neighbour, address)]
        elsewhere = await _login(gateway, _email(), **{"X-Forwarded-For": f"2001:db9::{new_id().int % 65_000:x}"})

    assert answers == [401, 401, 429]
    assert elsewhere == 401


async def test_forwarded_address_of_a_stranger_is_not_believed(mesh: FakeMesh) -> None:
    dead_redis = f"redis://127.0.0.1:{free_port()}/0"

    async with running_gateway(mesh, dead_redis, login_limit_per_minute=2) as gateway:
        answers = [
            await _login(gateway, _email(), **{"X-Forwarded-For": f"198.51.100.{number}"}) for number in range(3)
        ]

    assert answers == [401, 401, 429]


async def test_chat_continues_with_local_limits_while_redis_is_unavailable(mesh: FakeMesh) -> None:
    dead_redis = f"redis://127.0.0.1:{free_port()}/0"

    async with running_gateway(mesh, dead_redis, chat_limit_per_minute=2) as gateway:
        user = gateway.as_user()
        answers = [await gateway.http.post(CHAT, json={"message": "Hi"}, headers=user) for _ in range(3)]
        ready = await gateway.http.get("/readyz")

    assert [response.status_code for response in answers] == [200, 200, 429]
    assert ready.status_code == HTTPStatus.OK


async def test_user_with_too_many_open_streams_is_429(mesh: FakeMesh, valkey: EmbeddedValkey) -> None:
    mesh.agent.plan = answer_begin

    async with running_gateway(mesh, valkey.url, max_streams_per_user=2) as gateway, AsyncExitStack() as stack:
        user = gateway.as_user()
        for _ in range(2):
            await stack.enter_async_context(gateway.http.stream("POST", STREAM, json={"message": "Hi"}, headers=user))
        refused = await gateway.http.post(STREAM, json={"message": "Hi"}, headers=user)

    assert (refused.status_code, refused.json()["reason"]) == (429, "TOO_MANY_STREAMS")
    assert refused.headers["retry-after"]
    assert len(mesh.agent.started) == 2


async def test_full_replica_is_503(mesh: FakeMesh, valkey: EmbeddedValkey) -> None:
    mesh.agent.plan = answer_begin

    async with running_gateway(mesh, valkey.url, max_open_streams=1) as gateway, AsyncExitStack() as stack:
        await stack.enter_async_context(
            gateway.http.stream("POST", STREAM, json={"message": "Hi"}, headers=gateway.as_user())
        )
        refused = await gateway.http.post(CHAT, json={"message": "Hi"}, headers=gateway.as_user())

    assert (refused.status_code, refused.json()["reason"]) == (503, "STREAMS_FULL")


@pytest.mark.parametrize("path", [CHAT, STREAM])
async def test_ended_streams_give_their_places_back(mesh: FakeMesh, valkey: EmbeddedValkey, path: str) -> None:
    async with running_gateway(mesh, valkey.url, max_open_streams=1) as gateway:
        answers = [
            (await gateway.http.post(path, json={"message": "Hi"}, headers=gateway.as_user())).status_code
            for _ in range(3)
        ]

    assert answers == [200, 200, 200]
