"""Accounts and sessions on fakes: every possible outcome."""

from dataclasses import replace
from datetime import timedelta

import pytest
from fakes.auth.hasher import CountingHasher
from fakes.auth.store import InMemoryAuthDatabase
from fakes.clock import FakeClock
from jose import jwt
from mesh_auth.domain import REPEAT_WINDOW, EmailAddress, Lifetimes, LoginName, User
from mesh_auth.metrics import LOGINS, REFRESHES
from mesh_auth.usecases import Login, Refresh, Register
from mesh_common.errors import (
    AlreadyExists,
    DeadlineExceeded,
    MeshError,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)

ADA = EmailAddress("Ada@example.com", "ada@example.com")
ADA_NAME = LoginName((ADA.key,), ADA.key)
PASSWORD = "seven green kettles whistle"


@pytest.fixture
async def ada(register: Register) -> User:
    return await register(ADA, PASSWORD)


async def test_closed_registration_refuses_before_it_hashes(register: Register, hasher: CountingHasher) -> None:
    with pytest.raises(PermissionDenied) as caught:
        await replace(register, is_open=False)(ADA, PASSWORD)

    assert caught.value.reason == "REGISTRATION_CLOSED"
    assert hasher.hashes == 0


async def test_administrator_is_made_although_registration_is_closed(register: Register, login: Login) -> None:
    user = await replace(register, is_open=False).create(ADA, PASSWORD, is_admin=True)

    tokens = await login(ADA_NAME, PASSWORD)

    assert user.is_admin
    assert jwt.get_unverified_claims(tokens.access_token)["scope"] == "user admin"


async def test_taken_address_costs_a_hash_like_a_free_one(
    register: Register, ada: User, hasher: CountingHasher
) -> None:
    assert ada.email == ADA.written
    before = hasher.hashes

    with pytest.raises(AlreadyExists):
        await register(ADA, PASSWORD)

    assert hasher.hashes == before + 1


async def test_full_pool_stores_nothing(
    register: Register, hasher: CountingHasher, database: InMemoryAuthDatabase
) -> None:
    hasher.error = Unavailable("full", retry_after_s=1)

    with pytest.raises(Unavailable):
        await register(ADA, PASSWORD)

    assert database.tables.users == {}


@pytest.mark.parametrize(("key", "password"), [(ADA.key, "wrong"), ("other@example.com", PASSWORD), (None, PASSWORD)])
@pytest.mark.usefixtures("ada")
async def test_refused_login_verifies_once_whoever_asks(
    login: Login, hasher: CountingHasher, database: InMemoryAuthDatabase, key: str | None, password: str
) -> None:
    refused = LOGINS.labels("refused")._value.get()

    with pytest.raises(Unauthenticated) as caught:
        await login(LoginName((key,), key) if key else LoginName((), "nobody"), password)

    assert caught.value.reason == "WRONG_CREDENTIALS"
    assert hasher.verified_against == [f"new:{PASSWORD}" if key == ADA.key else None]
    assert database.tables.sessions == {}
    assert LOGINS.labels("refused")._value.get() == refused + 1


async def test_login_that_there_is_no_room_for_is_refused_before_it_costs_anything(
    login: Login, hasher: CountingHasher, database: InMemoryAuthDatabase
) -> None:
    hasher.refusal = Unavailable("full", retry_after_s=1)

    with pytest.raises(Unavailable):
        await login(ADA_NAME, PASSWORD)

    assert (database.transactions, hasher.verified_against) == (0, [])


async def test_login_stores_the_hash_of_the_refresh_token_alone(
    login: Login, ada: User, database: InMemoryAuthDatabase
) -> None:
    tokens = await login(ADA_NAME, PASSWORD)

    (stored,) = database.tables.tokens
    assert len(stored) == 32
    assert stored != tokens.refresh_token.encode()
    assert ada.id == next(iter(database.tables.sessions.values())).session.subject.user_id


async def test_old_hash_is_replaced_at_login(
    login: Login, ada: User, hasher: CountingHasher, database: InMemoryAuthDatabase
) -> None:
    database.tables.hashes[ada.id] = f"old:{PASSWORD}"

    await login(ADA_NAME, PASSWORD)

    assert database.tables.hashes[ada.id] == f"new:{PASSWORD}"
    assert len(hasher.verified_against) == 1


async def test_old_hash_is_kept_at_a_refused_login(login: Login, ada: User, database: InMemoryAuthDatabase) -> None:
    database.tables.hashes[ada.id] = f"old:{PASSWORD}"

    with pytest.raises(Unauthenticated):
        await login(ADA_NAME, "wrong")

    assert database.tables.hashes[ada.id] == f"old:{PASSWORD}"


@pytest.mark.parametrize("error", [Unavailable("full"), DeadlineExceeded("late")])
async def test_login_succeeds_though_the_old_hash_cannot_be_replaced_now(
    login: Login, ada: User, hasher: CountingHasher, database: InMemoryAuthDatabase, error: MeshError
) -> None:
    database.tables.hashes[ada.id] = f"old:{PASSWORD}"
    hasher.error = error

    tokens = await login(ADA_NAME, PASSWORD)

    assert tokens.access_token
    assert database.tables.hashes[ada.id] == f"old:{PASSWORD}"


async def test_refresh_counts_its_30_days_anew(
    login: Login, refresh: Refresh, ada: User, clock: FakeClock, lifetimes: Lifetimes
) -> None:
    tokens = await login(ADA_NAME, PASSWORD)
    almost = lifetimes.refresh_token - timedelta(seconds=1)

    clock.advance(almost)
    tokens = await refresh(tokens.refresh_token)
    clock.advance(almost)
    tokens = await refresh(tokens.refresh_token)

    assert jwt.get_unverified_claims(tokens.access_token)["sub"] == str(ada.id)


@pytest.mark.usefixtures("ada")
async def test_expired_refresh_token_is_refused_and_ends_nothing_else(
    login: Login, refresh: Refresh, clock: FakeClock, lifetimes: Lifetimes, database: InMemoryAuthDatabase
) -> None:
    tokens = await login(ADA_NAME, PASSWORD)
    clock.advance(lifetimes.refresh_token)

    with pytest.raises(Unauthenticated):
        await refresh(tokens.refresh_token)

    assert database.tables.revocations == []


async def test_reuse_is_remembered_though_the_call_fails(
    login: Login, refresh: Refresh, ada: User, database: InMemoryAuthDatabase, clock: FakeClock
) -> None:
    tokens = await login(ADA_NAME, PASSWORD)
    await refresh(tokens.refresh_token)
    clock.advance(REPEAT_WINDOW)
    reused = REFRESHES.labels("reused")._value.get()

    for _ in range(2):
        with pytest.raises(Unauthenticated):
            await refresh(tokens.refresh_token)

    ((user_id, revocation),) = database.tables.revocations
    assert user_id == ada.id
    assert database.tables.sessions[revocation.session_id].ended_at is not None
    assert REFRESHES.labels("reused")._value.get() == reused + 1
