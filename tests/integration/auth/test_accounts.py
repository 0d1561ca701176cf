"""Registration, login, GetUser and the keys, over the real server."""

import asyncio
from uuid import UUID

import pytest
from mesh.auth.v1 import auth_pb2
from mesh_auth.tables import memberships, organisations
from mesh_common.database.postgres import Database
from mesh_common.errors import (
    AlreadyExists,
    InvalidInput,
    MeshError,
    NotFound,
    PermissionDenied,
    Unauthenticated,
)
from mesh_common.ids import UserId, new_id, parse_id
from mesh_common.jwt import parse_jwks
from sqlalchemy import select
from support.auth import PASSWORD, AuthUnderTest, some_email
from support.subjects import personal


async def test_register_gives_the_account_as_it_was_written(auth: AuthUnderTest) -> None:
    email = f"Ada.Lovelace+{new_id()}@Example.COM"

    user = await auth.register(email)

    assert user.email == email
    assert str(parse_id(user.id, "id")) == user.id
    assert user.created_at.seconds > 0
    assert not user.is_admin


async def test_an_account_has_a_personal_organisation_from_its_start(
    auth: AuthUnderTest, auth_database: Database
) -> None:
    user_id = UUID((await auth.register()).id)

    async with auth_database.as_subject(personal(UserId(user_id))) as connection:
        [made] = await connection.execute(select(organisations.c.org_id, organisations.c.user_id))
        [joined] = await connection.execute(select(memberships.c.org_id, memberships.c.user_id, memberships.c.role))

    assert tuple(made) == (user_id, user_id)
    assert tuple(joined) == (user_id, user_id, "owner")


async def test_login_gives_an_access_token_that_the_published_keys_verify(auth: AuthUnderTest) -> None:
    user = await auth.register()

    tokens = await auth.login(user.email)

    claims = (await auth.verifier()).verify(tokens.access_token)
    assert claims["sub"] == user.id
    assert claims["org"] == user.id
    assert claims["scope"] == "user"
    assert claims["exp"] - claims["iat"] == tokens.expires_in.ToSeconds() == 900
    assert str(parse_id(claims["sid"], "sid")) != str(parse_id(claims["jti"], "jti"))


async def test_address_is_the_same_in_any_case(auth: AuthUnderTest) -> None:
    email = f"Grace.{new_id()}@example.com"
    await auth.register(email)

    tokens = await auth.login(email.swapcase())

    assert tokens.access_token
    with pytest.raises(AlreadyExists):
        await auth.register(email.upper())


async def test_taken_address_is_refused_without_saying_more(auth: AuthUnderTest) -> None:
    user = await auth.register()

    with pytest.raises(AlreadyExists) as caught:
        await auth.register(user.email, "another long passphrase here")

    assert user.email not in caught.value.message
    assert user.id not in caught.value.message
    assert (await auth.login(user.email)).access_token


async def test_of_two_registrations_at_once_one_gets_the_address(auth: AuthUnderTest) -> None:
    email = some_email()

    outcomes = await asyncio.gather(*(auth.register(email) for _ in range(5)), return_exceptions=True)

    assert sum(isinstance(outcome, auth_pb2.User) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, AlreadyExists) for outcome in outcomes) == 4


@pytest.mark.parametrize(
    ("email", "password", "field"),
    [
        ("", PASSWORD, "email"),
        ("not an address", PASSWORD, "email"),
        ("nul\x00@example.com", PASSWORD, "email"),
        (f"{'a' * 243}@example.com", PASSWORD, "email"),
        ("short@example.com", "fourteen chars", "password"),
        ("long@example.com", "ab cd efg " * 13, "password"),
        ("nul@example.com", f"{PASSWORD}\x00", "password"),
        ("common@example.com", "passwordpassword", "password"),
    ],
)
async def test_bad_registration_names_the_field(auth: AuthUnderTest, email: str, password: str, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await auth.register(email, password)

    assert [fault.field for fault in caught.value.fields] == [field]


async def test_wrong_password_and_unknown_account_get_the_same_answer(auth: AuthUnderTest) -> None:
    user = await auth.register()
    answers: list[MeshError] = []

    for email in (user.email, some_email(), "no address at all"):
        with pytest.raises(Unauthenticated) as caught:
            await auth.login(email, "a wrong and long password")
        answers.append(caught.value)

    assert len({(answer.reason, answer.message) for answer in answers}) == 1


async def test_password_is_one_whatever_its_unicode_form(auth: AuthUnderTest) -> None:
    email = some_email()
    await auth.register(email, "caf\u00e9 au lait et croissant")

    tokens = await auth.login(email, "cafe\u0301 au lait et croissant")

    assert tokens.access_token


async def test_user_is_the_one_the_call_acts_for(auth: AuthUnderTest) -> None:
    user, stranger = await auth.register(), await auth.register()

    found = await auth.user(UserId(parse_id(user.id, "id")))
    of_stranger = await auth.user(UserId(parse_id(stranger.id, "id")))

    assert found == user
    assert of_stranger == stranger


async def test_unknown_user_is_not_found(auth: AuthUnderTest) -> None:
    with pytest.raises(NotFound):
        await auth.user(UserId(new_id()))


async def test_call_for_nobody_is_refused_where_a_user_is_needed(auth: AuthUnderTest) -> None:
    with pytest.raises(Unauthenticated) as caught:
        await auth.gateway.unary(auth.stub.GetUser, auth_pb2.GetUserRequest(), timeout_s=5)

    assert caught.value.reason == "USER_REQUIRED"


async def test_keys_are_the_current_the_previous_and_the_next_without_private_parts(auth: AuthUnderTest) -> None:
    response = await auth.gateway.unary(auth.stub.GetSigningKeys, auth_pb2.GetSigningKeysRequest(), timeout_s=5)

    keys = parse_jwks(response.jwks_json)
    assert len(keys) == 3
    assert all(set(key) == {"crv", "kty", "x", "y", "kid", "alg", "use"} for key in keys.values())


async def test_agent_may_not_log_anybody_in(auth: AuthUnderTest) -> None:
    with pytest.raises(PermissionDenied):
        await auth.agent.unary(auth.stub.Login, auth_pb2.LoginRequest(email="a@b.cd", password="x"), timeout_s=5)
