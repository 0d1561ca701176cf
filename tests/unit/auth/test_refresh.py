"""Repeated refresh tokens and the maximum age of sessions, on fakes."""

import asyncio
from datetime import timedelta

import pytest
from fakes.auth.store import InMemoryAuthDatabase
from fakes.clock import FakeClock
from jose import jwt
from mesh_auth.domain import REPEAT_WINDOW, EmailAddress, Lifetimes, LoginName, TokenPair
from mesh_auth.retention import Retention
from mesh_auth.tokens import refresh_token_hash
from mesh_auth.usecases import Login, Refresh, Register
from mesh_common.errors import Unauthenticated

ADA = EmailAddress("Ada@example.com", "ada@example.com")
ADA_NAME = LoginName((ADA.key,), ADA.key)
PASSWORD = "seven green kettles whistle"
A_MOMENT = timedelta(seconds=1)


@pytest.fixture
async def first(register: Register, login: Login) -> TokenPair:
    await register(ADA, PASSWORD)
    return await login(ADA_NAME, PASSWORD)


def session_of(tokens: TokenPair) -> str:
    return str(jwt.get_unverified_claims(tokens.access_token)["sid"])


async def test_repeated_token_gives_the_same_successor_for_20_s(
    refresh: Refresh, first: TokenPair, clock: FakeClock, database: InMemoryAuthDatabase
) -> None:
    second = await refresh(first.refresh_token)
    clock.advance(REPEAT_WINDOW - A_MOMENT)

    repeated = await refresh(first.refresh_token)

    assert repeated.refresh_token == second.refresh_token
    assert session_of(repeated) == session_of(first)
    assert database.tables.revocations == []
    assert len(database.tables.tokens) == 2


async def test_token_repeated_later_ends_the_session(
    refresh: Refresh, first: TokenPair, clock: FakeClock, database: InMemoryAuthDatabase
) -> None:
    second = await refresh(first.refresh_token)
    clock.advance(REPEAT_WINDOW)

    with pytest.raises(Unauthenticated):
        await refresh(first.refresh_token)

    assert len(database.tables.revocations) == 1
    with pytest.raises(Unauthenticated):
        await refresh(second.refresh_token)


async def test_repeating_does_not_extend_the_20_s(refresh: Refresh, first: TokenPair, clock: FakeClock) -> None:
    await refresh(first.refresh_token)
    for _ in range(2):
        clock.advance(REPEAT_WINDOW / 3)
        await refresh(first.refresh_token)
    clock.advance(REPEAT_WINDOW / 3)

    with pytest.raises(Unauthenticated):
        await refresh(first.refresh_token)


async def test_chain_does_not_fork_when_the_successor_was_used_too(refresh: Refresh, first: TokenPair) -> None:
    second = await refresh(first.refresh_token)
    third = await refresh(second.refresh_token)

    repeated = await refresh(first.refresh_token)
    third_again = await refresh(repeated.refresh_token)

    assert repeated.refresh_token == second.refresh_token
    assert third_again.refresh_token == third.refresh_token


async def test_refreshes_at_the_same_instant_share_one_successor(
    refresh: Refresh, first: TokenPair, database: InMemoryAuthDatabase
) -> None:
    pairs = await asyncio.gather(*(refresh(first.refresh_token) for _ in range(8)))

    assert len({pair.refresh_token for pair in pairs}) == 1
    assert len(database.tables.tokens) == 2


async def test_stored_salt_alone_gives_no_successor(
    refresh: Refresh, first: TokenPair, database: InMemoryAuthDatabase
) -> None:
    """What is stored of the old token is its hash and a salt; the successor is in neither."""
    second = await refresh(first.refresh_token)

    old = database.tables.tokens[refresh_token_hash(first.refresh_token)]
    assert old.successor_salt is not None
    assert len(second.refresh_token) == len(first.refresh_token) == 43
    assert second.refresh_token not in (old.successor_salt.hex(), old.successor_salt.decode(errors="replace"))
    assert refresh_token_hash(second.refresh_token) in database.tables.tokens


async def test_token_that_release_0_1_0_rotated_ends_the_session_when_repeated(
    refresh: Refresh, first: TokenPair, clock: FakeClock, database: InMemoryAuthDatabase
) -> None:
    """That release stored no salt, so nobody knows the successor any more."""
    database.tables.tokens[refresh_token_hash(first.refresh_token)].used_at = clock.now()

    with pytest.raises(Unauthenticated):
        await refresh(first.refresh_token)

    assert len(database.tables.revocations) == 1


async def test_session_ends_at_its_maximum_age_however_often_it_was_refreshed(
    refresh: Refresh, first: TokenPair, clock: FakeClock, lifetimes: Lifetimes, database: InMemoryAuthDatabase
) -> None:
    tokens = first
    for _ in range(4):
        clock.advance((lifetimes.session - A_MOMENT) / 4)
        tokens = await refresh(tokens.refresh_token)
    clock.advance(A_MOMENT)

    with pytest.raises(Unauthenticated) as caught:
        await refresh(tokens.refresh_token)

    assert caught.value.reason == "SESSION_TOO_OLD"
    assert database.tables.revocations == []


async def test_no_refresh_token_expires_after_its_session(
    refresh: Refresh, first: TokenPair, clock: FakeClock, lifetimes: Lifetimes, database: InMemoryAuthDatabase
) -> None:
    ends_at = clock.now() + lifetimes.session
    tokens = first
    for _ in range(4):
        clock.advance(lifetimes.session / 5)
        tokens = await refresh(tokens.refresh_token)

    assert max(token.expires_at for token in database.tables.tokens.values()) == ends_at


async def test_token_of_an_older_release_does_not_outlive_the_maximum_age(
    refresh: Refresh, first: TokenPair, clock: FakeClock, lifetimes: Lifetimes, database: InMemoryAuthDatabase
) -> None:
    stored = database.tables.tokens[refresh_token_hash(first.refresh_token)]
    stored.expires_at = clock.now() + 2 * lifetimes.session
    clock.advance(lifetimes.session)

    with pytest.raises(Unauthenticated) as caught:
        await refresh(first.refresh_token)

    assert caught.value.reason == "SESSION_TOO_OLD"


async def test_client_with_an_expired_access_token_learns_that_its_session_is_too_old(
    refresh: Refresh, first: TokenPair, clock: FakeClock, lifetimes: Lifetimes, database: InMemoryAuthDatabase
) -> None:
    """Retention keeps the expired refresh token for as long as an access token lives."""
    retention = Retention(database, clock, lifetimes=lifetimes, period_s=1, not_ready_reason=_ready)
    tokens = first
    for _ in range(4):
        clock.advance((lifetimes.session - A_MOMENT) / 4)
        tokens = await refresh(tokens.refresh_token)
    clock.advance(lifetimes.access_token)
    await retention.prune()

    with pytest.raises(Unauthenticated) as caught:
        await refresh(tokens.refresh_token)

    assert caught.value.reason == "SESSION_TOO_OLD"


async def _ready() -> str | None:
    return None
