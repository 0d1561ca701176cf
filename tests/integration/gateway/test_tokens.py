"""Authentication: login, rejected tokens, logout, and auth unavailable."""

import asyncio
import base64
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import orjson
import pytest
from fakes.gateway.auth_servicer import FakeAuth
from jose import jwt as jose_jwt
from mesh_common.clock import SystemClock
from mesh_common.ids import OrganisationId, UserId, new_id
from mesh_common.jwt import SigningKey, new_private_key_pem, public_jwk
from mesh_common.redis import open_redis
from mesh_common.subject import Subject
from mesh_dev.valkey import EmbeddedValkey
from mesh_gateway.identity.seal import Seal
from pydantic import SecretStr
from support.gateway import Client, FakeMesh, eventually, running_gateway
from support.gateway_logins import ME, login, some_account
from support.net import free_port


def _forged_with_public_key(auth: FakeAuth) -> str:
    """The token of CVE-2026-85394: HS256 with the public key as its secret."""
    claims = jose_jwt.get_unverified_claims(auth.access_token())
    secret = orjson.dumps(public_jwk(auth.key.pem)).decode()
    headers = {"kid": auth.key.kid, "typ": "at+jwt"}
    return jose_jwt.encode(claims, secret, algorithm="HS256", headers=headers)


def _unsigned(auth: FakeAuth) -> str:
    header, claims, _ = auth.access_token().split(".")
    fields = orjson.loads(base64.urlsafe_b64decode(header + "==")) | {"alg": "none"}
    return base64.urlsafe_b64encode(orjson.dumps(fields)).decode().rstrip("=") + f".{claims}."


def _with_key_id(auth: FakeAuth, key_id: Any) -> SigningKey:
    return SigningKey(key_id, auth.key.pem)


REFUSED: dict[str, Callable[[FakeAuth], str]] = {
    "expired": lambda auth: auth.access_token(exp=int(time.time()) - 60),
    "other signature": lambda auth: auth.access_token()[:-6] + "AAAAAA",
    "other key under our kid": lambda auth: auth.access_token(
        key=SigningKey(auth.key.kid, new_private_key_pem()),
    ),
    "unknown key": lambda auth: auth.access_token(key=SigningKey.from_pem(new_private_key_pem())),
    "alg none": _unsigned,
    "HS256 with the public key": _forged_with_public_key,
    "other issuer": lambda auth: auth.access_token(iss="https://evil.example"),
    "other audience": lambda auth: auth.access_token(aud="agent"),
    "service token": lambda auth: auth.access_token(token_type="service+jwt"),
    "no session": lambda auth: auth.access_token(sid=None),
    "subject is no id": lambda auth: auth.access_token(sub="root"),
    "organisation is no id": lambda auth: auth.access_token(org="root"),
    "organisation is empty": lambda auth: auth.access_token(org=""),
    "scope is a list": lambda auth: auth.access_token(scope=["user"]),
    "roles are one word": lambda auth: auth.access_token(roles="owner"),
    "more roles than a subject has": lambda auth: auth.access_token(roles=[f"role-{number}" for number in range(17)]),
    "no expiry": lambda auth: auth.access_token(exp=None),
    "expiry beyond all dates": lambda auth: auth.access_token(exp=10**18),
    "expiry beyond all numbers": lambda auth: auth.access_token(exp=10**400),
    "expiry in words": lambda auth: auth.access_token(exp="9999999999"),
    "expiry is a list": lambda auth: auth.access_token(exp=[9_999_999_999]),
    "expiry is infinite": lambda auth: auth.access_token(exp=float("inf")),
    "key id is a list": lambda auth: auth.access_token(key=_with_key_id(auth, ["k"])),
    "key id is an object": lambda auth: auth.access_token(key=_with_key_id(auth, {})),
    "opaque": lambda _: "not-a-jwt",
    "huge": lambda _: "a" * 9_000,
}


@pytest.mark.parametrize("kind", REFUSED)
async def test_refused_token_is_401_with_a_challenge(gateway: Client, kind: str) -> None:
    token = REFUSED[kind](gateway.mesh.auth)

    response = await gateway.http.get(ME, headers={"Authorization": f"Bearer {token}"})

    assert response.status_code == HTTPStatus.UNAUTHORIZED
    assert response.headers["content-type"] == "application/problem+json"
    assert 'Bearer realm="mesh", error="invalid_token"' in response.headers["www-authenticate"]
    assert response.json()["reason"] == "INVALID_TOKEN"
    assert token not in response.text


@pytest.mark.parametrize("header", [{}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer"}])
async def test_missing_token_is_401_without_error_code(gateway: Client, header: dict[str, str]) -> None:
    response = await gateway.http.get(ME, headers=header)

    assert response.status_code == HTTPStatus.UNAUTHORIZED
    assert response.headers["www-authenticate"] == 'Bearer realm="mesh"'
    assert response.json()["reason"] == "TOKEN_REQUIRED"


async def test_service_token_of_the_gateway_itself_is_refused(gateway: Client) -> None:
    key = SigningKey.from_pem(gateway.mesh.secrets.service_keys["gateway"])
    token = gateway.mesh.auth.access_token(key=key, token_type="service+jwt", iss="gateway")

    response = await gateway.http.get(ME, headers={"Authorization": f"Bearer {token}"})

    assert response.status_code == HTTPStatus.UNAUTHORIZED


async def test_the_subject_of_a_token_reaches_the_services(gateway: Client) -> None:
    user_id, organisation_id = new_id(), new_id()
    token = gateway.mesh.auth.access_token(user_id, org=str(organisation_id), scope="user admin", roles=["owner"])

    await gateway.http.get(ME, headers={"Authorization": f"Bearer {token}"})

    assert gateway.mesh.auth.subjects[-1] == Subject(
        OrganisationId(organisation_id), UserId(user_id), frozenset({"owner"}), frozenset({"user", "admin"})
    )


async def test_a_token_of_release_0_1_0_speaks_for_the_personal_organisation(gateway: Client) -> None:
    """It has no `org` and stays valid for 15 minutes after the upgrade."""
    user_id = UserId(new_id())
    token = gateway.mesh.auth.access_token(user_id, org=None, roles=None, scope="user")

    await gateway.http.get(ME, headers={"Authorization": f"Bearer {token}"})

    assert gateway.mesh.auth.subjects[-1] == Subject(OrganisationId(user_id), user_id, scopes=frozenset({"user"}))


async def test_own_logout_applies_at_once(gateway: Client) -> None:
    tokens = await login(gateway, await some_account(gateway))
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}

    logout = await gateway.http.post("/api/v1/auth/logout", headers=headers)
    after = await gateway.http.get(ME, headers=headers)

    assert (logout.status_code, after.status_code) == (204, 401)


async def test_logout_elsewhere_arrives_within_five_seconds(gateway: Client) -> None:
    session_id = str(new_id())
    headers = {"Authorization": f"Bearer {gateway.mesh.auth.access_token(sid=session_id)}"}
    before = await gateway.http.get(ME, headers=headers)

    gateway.mesh.auth.revoke_elsewhere(str(new_id()))
    gateway.mesh.auth.revoke_elsewhere(session_id)
    async with asyncio.timeout(5):
        await eventually(gateway, ME, 401, headers)

    assert before.status_code == HTTPStatus.OK


async def test_restarted_gateway_verifies_while_auth_is_down(mesh: FakeMesh, valkey: EmbeddedValkey) -> None:
    async with running_gateway(mesh, valkey.url):
        pass

    async with mesh.without("auth"), running_gateway(mesh, valkey.url) as restarted:
        response = await restarted.http.get("/api/v1/models", headers=restarted.as_user())
        ready = await restarted.http.get("/readyz")

    assert response.status_code == HTTPStatus.OK
    assert ready.status_code == HTTPStatus.OK


@pytest.mark.parametrize("name", ["mesh:gateway:jwks", "mesh:gateway:sealed-jwks"])
async def test_key_that_somebody_added_in_redis_verifies_nothing(
    mesh: FakeMesh, valkey: EmbeddedValkey, name: str
) -> None:
    """Somebody can write to Redis but has no gateway's key. The gateway restarts while auth is down."""
    ours = SigningKey.from_pem(new_private_key_pem())
    document = orjson.dumps({"keys": [public_jwk(mesh.auth.key.pem), public_jwk(ours.pem)]})
    clock = SystemClock()
    forged = {
        "in the clear": document,
        "under another key": Seal(ours, clock).sealed(name, document, ttl_s=60),
    }
    token = {"Authorization": f"Bearer {mesh.auth.access_token(key=ours)}"}

    answers = {}
    async with open_redis(SecretStr(valkey.url)) as redis:
        for form, value in forged.items():
            await redis.delete("mesh:gateway:sealed-jwks")
            await redis.set(name, value, ex=60)
            async with mesh.without("auth"), running_gateway(mesh, valkey.url) as restarted:
                response = await restarted.http.get("/api/v1/models", headers=token)
                answers[form] = (response.status_code, response.json()["reason"])
        await redis.delete(name)

    assert answers == dict.fromkeys(forged, (503, "SIGNING_KEYS_UNKNOWN"))


async def test_gateway_that_never_saw_keys_says_503_and_recovers(mesh: FakeMesh) -> None:
    dead_redis = f"redis://127.0.0.1:{free_port()}/0"

    async with mesh.without("auth"):
        opened = running_gateway(mesh, dead_redis)
        gateway = await opened.__aenter__()
        refused = await gateway.http.get("/api/v1/models", headers=gateway.as_user())
        unready = await gateway.http.get("/readyz")
    try:
        await eventually(gateway, "/readyz", 200)
        accepted = await gateway.http.get("/api/v1/models", headers=gateway.as_user())
    finally:
        await opened.__aexit__(None, None, None)

    assert (refused.status_code, refused.json()["reason"]) == (503, "SIGNING_KEYS_UNKNOWN")
    assert unready.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    assert accepted.status_code == HTTPStatus.OK


async def test_token_of_a_new_key_is_accepted_at_its_first_use(mesh: FakeMesh, valkey: EmbeddedValkey) -> None:
    async with running_gateway(mesh, valkey.url) as gateway:
        old_key = mesh.auth.key
        mesh.auth.key = SigningKey.from_pem(new_private_key_pem())
        try:
            response = await gateway.http.get("/api/v1/models", headers=gateway.as_user())
        finally:
            mesh.auth.key = old_key

    assert response.status_code == HTTPStatus.OK


async def test_invented_keys_do_not_make_the_gateway_ask_auth_each_time(mesh: FakeMesh, valkey: EmbeddedValkey) -> None:
    async with running_gateway(mesh, valkey.url) as gateway:
        before = mesh.auth.keys_given
        for _ in range(5):
            token = mesh.auth.access_token(key=SigningKey.from_pem(new_private_key_pem()))
            await gateway.http.get(ME, headers={"Authorization": f"Bearer {token}"})

    assert mesh.auth.keys_given - before == 1


async def test_service_that_does_not_believe_the_gateway_is_our_fault_not_the_users(
    mesh: FakeMesh, valkey: EmbeddedValkey
) -> None:
    """It knows the signing keys from the copy in Redis, because auth refuses it too."""
    pem, name = new_private_key_pem(), "mesh:gateway:sealed-jwks"
    document = orjson.dumps({"keys": [public_jwk(mesh.auth.key.pem)]})
    async with open_redis(SecretStr(valkey.url)) as redis:
        await redis.set(name, Seal(SigningKey.from_pem(pem), SystemClock()).sealed(name, document, ttl_s=60), ex=60)

    async with running_gateway(mesh, valkey.url, service_key=pem) as gateway:
        response = await gateway.http.get("/api/v1/models", headers=gateway.as_user())

    assert (response.status_code, response.json()["reason"]) == (500, "INTERNAL")
