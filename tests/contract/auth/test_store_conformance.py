"""One suite for the store in memory and the one on PostgreSQL, so that unit tests rely on real behaviour."""

from datetime import datetime, timedelta

import pytest
from mesh_auth.domain import Month, Revocation, Session, SessionId, User
from mesh_auth.ports import AuthDatabase, AuthStore
from mesh_common.errors import InvalidInput
from mesh_common.ids import UserId, new_id
from support.auth import some_email
from support.auth_stores import HASH, NOW, make_user, some_usage
from support.subjects import elsewhere

LATER = NOW + timedelta(days=30)
NOVEMBER = Month(2026, 11)


async def make_session(
    database: AuthDatabase, user: User, token_hash: bytes, *, expires_at: datetime = LATER
) -> Session:
    session = Session(SessionId(new_id()), user.subject, created_at=NOW, expires_at=expires_at)
    async with database.as_subject(user.subject) as store:
        assert await store.start_session(session, token_hash, epoch=0)
    return session


def some_hash() -> bytes:
    return new_id().bytes * 2


async def all_revocations(store: AuthStore, cursor: str | None, limit: int) -> tuple[list[Revocation], str]:
    found: list[Revocation] = []
    while True:
        page = await store.list_revocations(cursor, now=NOW, limit=limit)
        found += page.revocations
        cursor = page.next_cursor
        if not page.has_more:
            return found, cursor


async def test_user_is_found_by_id_and_by_address(database: AuthDatabase) -> None:
    user = await make_user(database, password_hash="the hash")

    async with database.as_worker() as store:
        by_id = await store.find_user(user.id)
        by_address = await store.find_credentials(user.email)

    assert by_id == user
    assert by_address is not None
    assert (by_address.user, by_address.password_hash) == (user, "the hash")


async def test_unknown_user_is_not_found(database: AuthDatabase) -> None:
    async with database.as_worker() as store:
        assert await store.find_user(UserId(new_id())) is None
        assert await store.find_credentials(some_email()) is None


async def test_taken_address_is_not_given_twice(database: AuthDatabase) -> None:
    first = await make_user(database)
    second = User(UserId(new_id()), first.email, NOW)

    async with database.as_subject(second.subject) as store:
        is_added = await store.add_user(second, email_key=first.email, password_hash="other")

    assert not is_added
    async with database.as_worker() as store:
        assert await store.find_user(second.id) is None
        found = await store.find_credentials(first.email)
    assert found is not None
    assert found.user == first


async def test_transaction_that_fails_leaves_nothing(database: AuthDatabase) -> None:
    user = User(UserId(new_id()), some_email(), NOW)

    async def fail_after_writing() -> None:
        async with database.as_subject(user.subject) as store:
            await store.add_user(user, email_key=user.email, password_hash=HASH)
            raise InvalidInput.of_field("any", "fails")

    with pytest.raises(InvalidInput):
        await fail_after_writing()

    async with database.as_worker() as store:
        assert await store.find_user(user.id) is None


async def test_password_hash_is_replaced_only_where_it_is_still_the_old_one(database: AuthDatabase) -> None:
    user = await make_user(database, password_hash="first")

    async with database.as_subject(user.subject) as store:
        await store.replace_password_hash(user.id, old="first", new="second")
        await store.replace_password_hash(user.id, old="first", new="third")

    async with database.as_worker() as store:
        found = await store.find_credentials(user.email)
    assert found is not None
    assert found.password_hash == "second"


async def test_strangers_things_are_not_there_for_a_user(database: AuthDatabase) -> None:
    owner, stranger = await make_user(database), await make_user(database)
    token_hash = some_hash()
    session = await make_session(database, owner, token_hash)
    async with database.as_subject(owner.subject) as store:
        await store.add_usage(owner.subject, some_usage())

    async with database.as_subject(stranger.subject) as store:
        assert await store.find_user(owner.id) is None
        assert await store.find_credentials(owner.email) is None
        assert await store.lock_refresh_token(token_hash) is None
        assert await store.sum_usage(owner.id, NOVEMBER) == []
        assert not await store.end_session(stranger.id, session.id, now=NOW)
        assert not await store.end_session(owner.id, session.id, now=NOW)


async def test_an_account_is_its_users_in_every_organisation(database: AuthDatabase) -> None:
    user = await make_user(database)
    token_hash = some_hash()
    session = await make_session(database, user, token_hash)

    async with database.as_subject(elsewhere(user.subject)) as store:
        assert await store.find_user(user.id) == user
        assert await store.lock_refresh_token(token_hash) is not None
        assert await store.end_session(user.id, session.id, now=NOW)


async def test_refresh_token_is_found_with_its_owner_and_state(database: AuthDatabase) -> None:
    user = await make_user(database)
    token_hash = some_hash()
    session = await make_session(database, user, token_hash)

    async with database.as_worker() as store:
        fresh = await store.lock_refresh_token(token_hash)
        await store.use_refresh_token(token_hash, successor_salt=b"salt", now=LATER)
        await store.end_session(user.id, session.id, now=NOW)
        used = await store.lock_refresh_token(token_hash)
        unknown = await store.lock_refresh_token(some_hash())

    assert fresh is not None
    assert (fresh.user, fresh.session_id, fresh.expires_at) == (user, session.id, LATER)
    assert fresh.session_created_at == NOW
    assert (fresh.used_at, fresh.successor_salt) == (None, None)
    assert not fresh.is_session_ended
    assert used is not None
    assert (used.used_at, used.successor_salt) == (LATER, b"salt")
    assert used.is_session_ended
    assert unknown is None


async def test_session_ends_once(database: AuthDatabase) -> None:
    user = await make_user(database)
    session = await make_session(database, user, some_hash())

    async with database.as_subject(user.subject) as store:
        first = await store.end_session(user.id, session.id, now=NOW)
        second = await store.end_session(user.id, session.id, now=NOW)
        unknown = await store.end_session(user.id, SessionId(new_id()), now=NOW)

    assert (first, second, unknown) == (True, False, False)


async def test_cursor_goes_on_where_the_last_read_ended(database: AuthDatabase) -> None:
    user = await make_user(database)
    first, second = (Revocation(SessionId(new_id()), LATER) for _ in range(2))
    async with database.as_worker() as store:
        _, cursor = await all_revocations(store, None, limit=1_000)

    async with database.as_subject(user.subject) as store:
        await store.add_revocation(user.subject, first)
    async with database.as_worker() as store:
        after_first, cursor = await all_revocations(store, cursor, limit=1_000)
    async with database.as_subject(user.subject) as store:
        await store.add_revocation(user.subject, second)
        await store.add_revocation(user.subject, second)
    async with database.as_worker() as store:
        after_second, cursor = await all_revocations(store, cursor, limit=1_000)
        after_that, _ = await all_revocations(store, cursor, limit=1_000)

    assert (after_first, after_second, after_that) == ([first], [second], [])


async def test_pages_give_each_revocation_once(database: AuthDatabase) -> None:
    user = await make_user(database)
    revoked = [Revocation(SessionId(new_id()), LATER) for _ in range(7)]
    async with database.as_worker() as store:
        _, cursor = await all_revocations(store, None, limit=1_000)
    for revocation in revoked:
        async with database.as_subject(user.subject) as store:
            await store.add_revocation(user.subject, revocation)

    async with database.as_worker() as store:
        found, _ = await all_revocations(store, cursor, limit=3)

    assert found == revoked


async def test_expired_revocations_are_not_listed(database: AuthDatabase) -> None:
    user = await make_user(database)
    expired = Revocation(SessionId(new_id()), NOW)
    async with database.as_subject(user.subject) as store:
        await store.add_revocation(user.subject, expired)

    async with database.as_worker() as store:
        found, _ = await all_revocations(store, None, limit=1_000)

    assert expired not in found


@pytest.mark.parametrize("cursor", ["", "x", "-1", "2:1:", "1:9:3,2", "1:9:9", "0:1:", "5:6:;5:6:;1", "1:1:\n"])
async def test_cursor_that_was_never_given_is_refused(database: AuthDatabase, cursor: str) -> None:
    async with database.as_worker() as store:
        with pytest.raises(InvalidInput) as caught:
            await store.list_revocations(cursor, now=NOW, limit=1)

    assert caught.value.fields[0].field == "cursor"


async def test_user_without_override_has_none(database: AuthDatabase) -> None:
    user = await make_user(database)

    async with database.as_subject(user.subject) as store:
        assert await store.find_override(user.id) is None


async def test_pruning_takes_the_expired_and_the_ended_and_leaves_the_rest(database: AuthDatabase) -> None:
    user = await make_user(database)
    alive, expired, ended = some_hash(), some_hash(), some_hash()
    await make_session(database, user, alive)
    await make_session(database, user, expired, expires_at=NOW - timedelta(hours=2))
    session = await make_session(database, user, ended)
    async with database.as_subject(user.subject) as store:
        await store.end_session(user.id, session.id, now=NOW - timedelta(hours=2))
        await store.add_revocation(user.subject, Revocation(session.id, NOW - timedelta(seconds=1)))

    async with database.as_worker() as store:
        count = await store.prune(sessions_before=NOW - timedelta(hours=1), revocations_before=NOW, limit=1_000)

    assert count >= 5
    async with database.as_worker() as store:
        assert await store.lock_refresh_token(alive) is not None
        assert await store.lock_refresh_token(expired) is None
        assert await store.lock_refresh_token(ended) is None
    async with database.as_subject(user.subject) as store:
        assert not await store.end_session(user.id, session.id, now=NOW)
