"""Registering, logging in, refreshing and logging out."""

from http import HTTPStatus

import pytest
from mesh_dev.valkey import EmbeddedValkey
from mesh_gateway.identity import login_capacity as login_room
from support.gateway import Client, FakeMesh, running_gateway
from support.gateway_logins import ME, PASSWORD, login, some_account


async def test_register_login_me(gateway: Client) -> None:
    email = await some_account(gateway)

    tokens = await login(gateway, email)
    me = await gateway.http.get(ME, headers={"Authorization": f"Bearer {tokens['access_token']}"})

    assert tokens["token_type"] == "bearer"
    assert tokens["expires_in"] == 900
    assert me.json()["email"] == email


async def test_wrong_password_is_401(gateway: Client) -> None:
    email = await some_account(gateway)

    answer = await login(gateway, email, "wrong horse battery staple")

    assert (answer["status"], answer["reason"]) == (401, "WRONG_CREDENTIALS")


async def test_taken_email_is_409(gateway: Client) -> None:
    email = await some_account(gateway)

    response = await gateway.http.post("/api/v1/auth/register", json={"email": email.upper(), "password": PASSWORD})

    assert (response.status_code, response.json()["reason"]) == (409, "EMAIL_TAKEN")


async def test_full_hashing_pool_is_503_with_its_wait_and_auth_is_not_asked_for_the_next(
    mesh: FakeMesh, valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(login_room, "_PAUSE_S", 60.0)
    form = {"username": "a@b.de", "password": PASSWORD}
    mesh.auth.is_hashing_pool_full = True
    asked_before = mesh.auth.hashes_asked
    try:
        async with running_gateway(mesh, valkey.url) as gateway:
            refused = await gateway.http.post("/api/v1/auth/register", json={"email": "a@b.de", "password": PASSWORD})
            held_back = await gateway.http.post("/api/v1/auth/login", data=form)
    finally:
        mesh.auth.is_hashing_pool_full = False

    assert [response.status_code for response in (refused, held_back)] == [503, 503]
    assert [response.headers["retry-after"] for response in (refused, held_back)] == ["3", "3"]
    assert held_back.json()["reason"] == "LOGIN_CAPACITY"
    assert mesh.auth.hashes_asked == asked_before + 1


async def test_refresh_gives_the_next_tokens_once(gateway: Client) -> None:
    tokens = await login(gateway, await some_account(gateway))

    first = await gateway.http.post("/api/v1/auth/refresh", json={"refresh_token": tokens["refresh_token"]})
    second = await gateway.http.post("/api/v1/auth/refresh", json={"refresh_token": tokens["refresh_token"]})

    assert first.status_code == HTTPStatus.OK
    assert (second.status_code, second.json()["reason"]) == (401, "INVALID_REFRESH_TOKEN")


@pytest.mark.parametrize("body", [{"json": {"username": "a@b.de", "password": PASSWORD}}, {"content": b"x"}, {}])
async def test_login_that_is_no_form_is_415(gateway: Client, body: dict[str, object]) -> None:
    response = await gateway.http.post("/api/v1/auth/login", **body)  # type: ignore[arg-type]

    assert (response.status_code, response.json()["reason"]) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert PASSWORD not in response.text


async def test_login_with_an_empty_form_is_422(gateway: Client) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}

    response = await gateway.http.post("/api/v1/auth/login", headers=headers)

    assert response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert {fault["field"] for fault in response.json()["errors"]} == {"username", "password"}


async def test_login_while_auth_is_down_is_503_and_chat_continues(mesh: FakeMesh, valkey: EmbeddedValkey) -> None:
    async with running_gateway(mesh, valkey.url) as gateway, mesh.without("auth"):
        form = {"username": "ada@example.com", "password": PASSWORD}
        login = await gateway.http.post("/api/v1/auth/login", data=form)
        chat = await gateway.http.post("/api/v1/chatbot/chat", json={"message": "Hi"}, headers=gateway.as_user())

    assert (login.status_code, login.headers["retry-after"]) == (503, "1")
    assert chat.status_code == HTTPStatus.OK
