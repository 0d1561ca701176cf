"""Every kind of invalid access token; logout, refresh and reuse."""

import hashlib
import time
from collections.abc import Callable

import httpx
import psycopg
import pytest
from mesh_dev.mesh_client import MeshClient
from mesh_dev.stack import Stack
from support.api import PASSWORD, User, eventually, new_user
from support.forgery import Forger

FORGERIES = [
    Forger.expired,
    Forger.expiry_beyond_all_dates,
    Forger.expiry_beyond_all_numbers,
    Forger.key_id_is_a_list,
    Forger.key_id_is_an_object,
    Forger.not_yet_ours,
    Forger.unknown_key,
    Forger.changed_claims,
    Forger.no_algorithm,
    Forger.hmac_with_public_key,
    Forger.other_issuer,
    Forger.other_audience,
    Forger.other_type,
    Forger.refresh_token,
    Forger.service_token,
    Forger.no_token_at_all,
]
# Revocations reach every replica within this time.
REVOKED_WITHIN_S = 5.0


@pytest.fixture
def forger(stack: Stack, user: User) -> Forger:
    return Forger(stack.environments.secrets, user.tokens["access_token"], user.tokens["refresh_token"])


@pytest.mark.parametrize("forge", FORGERIES, ids=lambda forge: forge.__name__)
async def test_bad_token_is_refused(user: User, forger: Forger, forge: Callable[[Forger], str]) -> None:
    user.use_token(forge(forger))

    require_refusal(await user.get("/auth/me"))


async def test_forgery_without_a_change_is_accepted(user: User, forger: Forger) -> None:
    user.use_token(forger.genuine())

    assert (await user.get("/auth/me")).status_code == 200


@pytest.mark.parametrize("path", ["/auth/me", "/threads", "/memories", "/models", "/usage"])
async def test_no_token_is_refused(stack: Stack, path: str) -> None:
    async with MeshClient(stack.url) as nobody:
        require_refusal(await nobody.get(path))


async def test_chat_without_a_token_starts_nothing(stack: Stack) -> None:
    async with MeshClient(stack.url) as nobody:
        require_refusal(await nobody.post("/chatbot/chat/stream", {"message": "Hello."}))


async def test_token_in_another_scheme_is_refused(user: User) -> None:
    user.http.headers["authorization"] = f"Basic {user.tokens['access_token']}"

    require_refusal(await user.get("/auth/me"))


async def test_logout_ends_the_session(user: User) -> None:
    started = time.monotonic()
    assert (await user.post("/auth/logout")).status_code == 204

    async def me() -> httpx.Response:
        return await user.get("/auth/me")

    require_refusal(await eventually("the refusal", me, lambda response: response.status_code == 401, REVOKED_WITHIN_S))
    assert time.monotonic() - started < REVOKED_WITHIN_S
    refreshed = await user.post("/auth/refresh", {"refresh_token": user.tokens["refresh_token"]})
    assert refreshed.status_code == 401


async def test_refresh_token_is_good_once_and_its_reuse_ends_the_session(stack: Stack, user: User) -> None:
    first = user.tokens["refresh_token"]
    second = await user.post("/auth/refresh", {"refresh_token": first})
    assert second.status_code == 200, second.text
    user.use_token(second.json()["access_token"])
    assert (await user.get("/auth/me")).status_code == 200
    repeated = await user.post("/auth/refresh", {"refresh_token": first})
    assert repeated.json()["refresh_token"] == second.json()["refresh_token"]

    await _age_use(stack, first)
    assert (await user.post("/auth/refresh", {"refresh_token": first})).status_code == 401

    third = await user.post("/auth/refresh", {"refresh_token": second.json()["refresh_token"]})
    assert third.status_code == 401
    await eventually(
        "the refusal", lambda: user.get("/auth/me"), lambda response: response.status_code == 401, REVOKED_WITHIN_S
    )


async def _age_use(stack: Stack, refresh_token: str) -> None:
    """Moves the token's first use 20 s back in time."""
    token_hash = hashlib.sha256(refresh_token.encode()).digest()
    async with await psycopg.AsyncConnection.connect(stack.postgres.url_of("mesh")) as connection:
        await connection.execute(
            "UPDATE auth.refresh_tokens SET used_at = used_at - interval '20 s' WHERE token_hash = %s", (token_hash,)
        )


async def test_wrong_password_and_unknown_user_get_the_same_answer(stack: Stack, user: User) -> None:
    async with MeshClient(stack.url) as nobody:
        wrong = await nobody.login(user.email, PASSWORD + "!")
        unknown = await nobody.login("nobody@example.com", PASSWORD)

    assert wrong.status_code == unknown.status_code == 401
    assert wrong.json() | {"trace_id": ""} == unknown.json() | {"trace_id": ""}


async def test_taken_email_is_refused_in_any_case(stack: Stack, user: User) -> None:
    async with MeshClient(stack.url) as nobody:
        response = await nobody.register(user.email.upper(), PASSWORD)

    assert response.status_code == 409
    assert user.email.casefold() not in response.text.casefold()


@pytest.mark.parametrize(
    ("email", "password", "field"),
    [
        ("no-address", PASSWORD, "email"),
        ("a@b", PASSWORD, "email"),
        ("new-user@example.com", "too short", "password"),
        ("new-user@example.com", "x" * 129, "password"),
        ("new-user@example.com", "passwordpassword", "password"),
    ],
)
async def test_bad_account_is_refused_and_not_made(stack: Stack, email: str, password: str, field: str) -> None:
    async with MeshClient(stack.url) as nobody:
        response = await nobody.register(email, password)

        assert response.status_code == 422, response.text
        assert [error["field"] for error in response.json()["errors"]] == [field]
        assert (await nobody.login(email, password)).status_code in (401, 422)


async def test_any_characters_make_a_password(stack: Stack) -> None:
    async with new_user(stack.url) as user, MeshClient(stack.url) as nobody:
        email, password = f"x{user.email}", "пароль 한국어 🦜 \\ ' \" %20"
        assert (await nobody.register(email, password)).status_code == 201

        assert (await nobody.login(email, password)).status_code == 200


def require_refusal(response: httpx.Response) -> None:
    assert response.status_code == 401, response.text
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == 401
    assert problem["reason"]
    assert problem["trace_id"] == response.headers["x-trace-id"]
