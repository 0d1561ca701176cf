"""Rotation, reuse, logout and the list of revocations, over the real server."""

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest
from fakes.auth.hasher import CountingHasher
from mesh.auth.v1 import auth_pb2
from mesh_auth.domain import REPEAT_WINDOW, Revocation, SessionId
from mesh_auth.settings import AuthSettings
from mesh_auth.store.accounts import PostgresAuthDatabase
from mesh_auth.tables import refresh_tokens, sessions
from mesh_auth.tokens import refresh_token_hash
from mesh_common.clock import utc_now
from mesh_common.database.postgres import Database
from mesh_common.errors import InvalidInput, Unauthenticated
from mesh_common.ids import UserId, new_id, parse_id
from sqlalchemy import update
from support.auth import AuthUnderTest, opened
from support.mesh import TestMesh
from support.subjects import personal


async def all_revoked(auth: AuthUnderTest, cursor: str | None = None) -> tuple[list[str], str]:
    found: list[str] = []
    while True:
        page = await auth.revocations(cursor)
        found += [entry.session_id for entry in page.revocations]
        cursor = page.next_cursor
        if not page.has_more:
            return found, cursor


async def test_refresh_gives_the_next_tokens_of_the_same_session(auth: AuthUnderTest) -> None:
    user = await auth.register()
    first = await auth.login(user.email)

    second = await auth.refresh(first.refresh_token)
    third = await auth.refresh(second.refresh_token)

    assert len({first.refresh_token, second.refresh_token, third.refresh_token}) == 3
    assert await auth.session_of(first) == await auth.session_of(third)
    assert third.expires_in.ToSeconds() == 900


async def age_use(database: Database, refresh_token: str) -> None:
    """Moves the token's first use back in time, to the end of the time in which it may be repeated."""
    async with database.as_worker() as connection:
        await connection.execute(
            update(refresh_tokens)
            .where(refresh_tokens.c.token_hash == refresh_token_hash(refresh_token))
            .values(used_at=refresh_tokens.c.used_at - REPEAT_WINDOW)
        )


async def test_token_used_twice_ends_the_whole_family(auth: AuthUnderTest, auth_database: Database) -> None:
    user = await auth.register()
    stolen = await auth.login(user.email)
    newest = await auth.refresh(stolen.refresh_token)
    await age_use(auth_database, stolen.refresh_token)

    with pytest.raises(Unauthenticated):
        await auth.refresh(stolen.refresh_token)

    with pytest.raises(Unauthenticated):
        await auth.refresh(newest.refresh_token)
    revoked, _ = await all_revoked(auth)
    assert await auth.session_of(stolen) in revoked


async def test_reuse_leaves_the_users_other_sessions_alone(auth: AuthUnderTest, auth_database: Database) -> None:
    user = await auth.register()
    stolen, other = await auth.login(user.email), await auth.login(user.email)
    await auth.refresh(stolen.refresh_token)
    await age_use(auth_database, stolen.refresh_token)

    with pytest.raises(Unauthenticated):
        await auth.refresh(stolen.refresh_token)

    assert (await auth.refresh(other.refresh_token)).access_token
    assert await auth.session_of(other) not in (await all_revoked(auth))[0]


async def test_refreshes_at_once_on_two_replicas_get_one_successor(
    auth: AuthUnderTest, test_mesh: TestMesh, auth_settings: AuthSettings
) -> None:
    user = await auth.register()
    tokens = await auth.login(user.email)

    async with opened(test_mesh, auth_settings, hasher=CountingHasher()) as other:
        pairs = await asyncio.gather(*(one.refresh(tokens.refresh_token) for one in (auth, other) * 4))

    assert len({pair.refresh_token for pair in pairs}) == 1
    assert {await auth.session_of(pair) for pair in pairs} == {await auth.session_of(tokens)}
    assert (await auth.refresh(pairs[0].refresh_token)).refresh_token
    assert await auth.session_of(tokens) not in (await all_revoked(auth))[0]


async def test_session_from_before_the_maximum_age_is_too_old(auth: AuthUnderTest, auth_database: Database) -> None:
    user = await auth.register()
    tokens = await auth.login(user.email)
    session = await auth.session_of(tokens)
    async with auth_database.as_worker() as connection:
        await connection.execute(
            update(sessions)
            .where(sessions.c.session_id == UUID(session))
            .values(created_at=utc_now() - timedelta(seconds=auth.settings.session_max_age_s))
        )

    with pytest.raises(Unauthenticated) as caught:
        await auth.refresh(tokens.refresh_token)

    assert caught.value.reason == "SESSION_TOO_OLD"


@pytest.mark.parametrize("token", ["unknown", "a" * 43])
async def test_unknown_refresh_token_is_refused(auth: AuthUnderTest, token: str) -> None:
    with pytest.raises(Unauthenticated):
        await auth.refresh(token)


async def test_access_token_is_no_refresh_token(auth: AuthUnderTest) -> None:
    user = await auth.register()
    tokens = await auth.login(user.email)

    with pytest.raises(Unauthenticated):
        await auth.refresh(tokens.access_token)


async def test_logout_revokes_access_and_refresh_tokens(auth: AuthUnderTest) -> None:
    user = await auth.register()
    tokens = await auth.login(user.email)
    session = await auth.session_of(tokens)
    _, cursor = await all_revoked(auth)

    await auth.logout(UserId(parse_id(user.id, "id")), session)

    assert (await all_revoked(auth, cursor))[0] == [session]
    with pytest.raises(Unauthenticated):
        await auth.refresh(tokens.refresh_token)


async def test_revocation_outlives_the_last_access_token_of_the_session(auth: AuthUnderTest) -> None:
    user = await auth.register()
    tokens = await auth.login(user.email)
    claims = (await auth.verifier()).verify(tokens.access_token)

    await auth.logout(UserId(parse_id(user.id, "id")), claims["sid"])

    page = await auth.revocations()
    (expires_at,) = [entry.expires_at for entry in page.revocations if entry.session_id == claims["sid"]]
    assert expires_at.seconds >= claims["exp"] + 5


async def test_logout_is_idempotent(auth: AuthUnderTest) -> None:
    user = await auth.register()
    tokens = await auth.login(user.email)
    session = await auth.session_of(tokens)

    await auth.logout(UserId(parse_id(user.id, "id")), session)
    await auth.logout(UserId(parse_id(user.id, "id")), session)

    assert (await all_revoked(auth))[0].count(session) == 1


async def test_session_of_another_user_is_ignored(auth: AuthUnderTest) -> None:
    owner, stranger = await auth.register(), await auth.register()
    tokens = await auth.login(owner.email)
    session = await auth.session_of(tokens)

    await auth.logout(UserId(parse_id(stranger.id, "id")), session)

    assert session not in (await all_revoked(auth))[0]
    assert (await auth.refresh(tokens.refresh_token)).access_token


async def test_unknown_session_is_ignored_and_a_malformed_one_refused(auth: AuthUnderTest) -> None:
    user = await auth.register()
    user_id = UserId(parse_id(user.id, "id"))
    unknown = str(new_id())

    await auth.logout(user_id, unknown)

    assert unknown not in (await all_revoked(auth))[0]
    with pytest.raises(InvalidInput) as caught:
        await auth.logout(user_id, "not-a-uuid")
    assert caught.value.fields[0].field == "session_id"


async def test_refresh_while_logging_out_leaves_no_living_token(auth: AuthUnderTest) -> None:
    user = await auth.register()
    tokens = await auth.login(user.email)
    session = await auth.session_of(tokens)

    refreshed, _ = await asyncio.gather(
        auth.refresh(tokens.refresh_token),
        auth.logout(UserId(parse_id(user.id, "id")), session),
        return_exceptions=True,
    )

    survivor = refreshed.refresh_token if isinstance(refreshed, auth_pb2.TokenPair) else tokens.refresh_token
    with pytest.raises(Unauthenticated):
        await auth.refresh(survivor)
    assert session in (await all_revoked(auth))[0]


async def test_no_revocation_is_missed_when_commits_come_out_of_order(
    auth: AuthUnderTest, auth_database: Database
) -> None:
    """The first writer commits last; a cursor by number or time would have skipped its revocation."""
    database = PostgresAuthDatabase(auth_database)
    slow, fast = new_id(), new_id()
    expires_at = utc_now().replace(year=2100)
    user_id = UserId(new_id())
    _, cursor = await all_revoked(auth)

    async with database.as_subject(personal(user_id)) as store:
        await store.add_revocation(personal(user_id), Revocation(SessionId(slow), expires_at))
        async with database.as_subject(personal(user_id)) as other:
            await other.add_revocation(personal(user_id), Revocation(SessionId(fast), expires_at))
        before, cursor = await all_revoked(auth, cursor)
    after, cursor = await all_revoked(auth, cursor)

    assert before == [str(fast)]
    assert after == [str(slow)]
    assert (await all_revoked(auth, cursor))[0] == []


async def test_an_open_transaction_elsewhere_holds_no_revocation_back(
    auth: AuthUnderTest, auth_database: Database
) -> None:
    database = PostgresAuthDatabase(auth_database)
    first, second = UserId(new_id()), UserId(new_id())
    session = new_id()
    expires_at = utc_now().replace(year=2100)
    _, cursor = await all_revoked(auth)

    async with database.as_subject(personal(first)) as store:
        await store.add_revocation(personal(first), Revocation(SessionId(new_id()), expires_at))
        async with database.as_subject(personal(second)) as other:
            await other.add_revocation(personal(second), Revocation(SessionId(session), expires_at))
        found, _ = await all_revoked(auth, cursor)

    assert found == [str(session)]


async def test_cursor_of_a_database_that_was_restored_starts_anew(auth: AuthUnderTest) -> None:
    user = await auth.register()
    session = await auth.session_of(await auth.login(user.email))
    await auth.logout(UserId(parse_id(user.id, "id")), session)

    page = await auth.revocations("9000000000000000000:9000000000000000000:")

    assert session in [entry.session_id for entry in page.revocations]


async def test_cursor_that_is_none_is_refused(auth: AuthUnderTest) -> None:
    with pytest.raises(InvalidInput) as caught:
        await auth.revocations("17")

    assert caught.value.fields[0].field == "cursor"
