"""A request leaves no reference cycle: errors come in storms, and the collector's pauses delay all requests."""

from collections.abc import Awaitable, Callable

import pytest
from mesh_common.ids import new_id
from support.cycles import cycles_left_by
from support.gateway import Client

CHAT = "/api/v1/chatbot/chat"
STREAM = "/api/v1/chatbot/chat/stream"


async def _answered(gateway: Client) -> int:
    return (await gateway.http.post(STREAM, json={"message": "Hi"}, headers=gateway.as_user())).status_code


async def _login_refused(gateway: Client) -> int:
    form = {"username": f"{new_id()}@example.com", "password": "wrong horse battery staple"}
    return (await gateway.http.post("/api/v1/auth/login", data=form)).status_code


async def _not_found(gateway: Client) -> int:
    return (await gateway.http.get(f"/api/v1/runs/{new_id()}", headers=gateway.as_user())).status_code


async def _no_thread(gateway: Client) -> int:
    body = {"message": "Hi", "thread_id": str(new_id())}
    return (await gateway.http.post(CHAT, json=body, headers=gateway.as_user())).status_code


async def _invalid(gateway: Client) -> int:
    return (await gateway.http.post(CHAT, json={"message": ""}, headers=gateway.as_user())).status_code


async def _without_token(gateway: Client) -> int:
    return (await gateway.http.post(CHAT, json={"message": "Hi"})).status_code


@pytest.mark.parametrize(
    ("request_one", "status"),
    [
        (_answered, 200),
        (_login_refused, 401),
        (_not_found, 404),
        (_no_thread, 404),
        (_invalid, 422),
        (_without_token, 401),
    ],
)
async def test_request_leaves_no_cycle(
    gateway: Client, request_one: Callable[[Client], Awaitable[int]], status: int
) -> None:
    assert await request_one(gateway) == status

    assert not await cycles_left_by(lambda: request_one(gateway))
