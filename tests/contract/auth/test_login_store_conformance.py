"""What limits on logins need of a store: in memory and on PostgreSQL."""

import asyncio
from datetime import timedelta

from mesh_auth.domain import LoginFailures
from mesh_auth.ports import AuthDatabase
from mesh_common.ids import UserId, new_id
from support.auth_stores import NOW, make_user


def some_key() -> bytes:
    return new_id().bytes * 2


async def test_failures_are_replaced_and_zero_deletes_them(database: AuthDatabase) -> None:
    one, other, none = some_key(), some_key(), some_key()
    async with database.as_worker() as store:
        await store.put_login_failures({one: LoginFailures(1, NOW), other: LoginFailures(7, NOW)})
    async with database.as_worker() as store:
        await store.put_login_failures({one: LoginFailures(2, NOW + timedelta(hours=1)), other: LoginFailures(0, NOW)})

    async with database.as_worker() as store:
        found = await store.find_login_failures([one, other, none])
        await store.put_login_failures({})

    assert found == {one: LoginFailures(2, NOW + timedelta(hours=1))}


async def test_logins_in_progress_are_kept_apart_from_failures(database: AuthDatabase) -> None:
    one, other, none = some_key(), some_key(), some_key()
    pending = LoginFailures(0, NOW, (NOW, NOW, NOW + timedelta(microseconds=1)))
    failed = LoginFailures(2, NOW, (NOW + timedelta(seconds=1),))
    async with database.as_worker() as store:
        await store.put_login_failures({one: pending, other: failed, none: LoginFailures(0, NOW)})

    async with database.as_worker() as store:
        assert await store.find_login_failures([one, other, none]) == {one: pending, other: failed}
        await store.put_login_failures({one: pending.ended(NOW), other: failed.ended(failed.pending[0])})

    async with database.as_worker() as store:
        assert await store.find_login_failures([one, other]) == {
            one: LoginFailures(0, NOW, pending.pending[1:]),
            other: LoginFailures(2, NOW),
        }


async def test_one_login_of_an_account_is_decided_at_a_time(database: AuthDatabase) -> None:
    key = some_key()

    async def count_one() -> None:
        async with database.as_worker() as store:
            await store.lock_login(key)
            found = (await store.find_login_failures([key])).get(key, LoginFailures(0, NOW))
            await store.put_login_failures({key: LoginFailures(found.count + 1, NOW)})

    await asyncio.gather(*(count_one() for _ in range(20)))

    async with database.as_worker() as store:
        assert (await store.find_login_failures([key]))[key].count == 20


async def test_address_is_the_users_until_it_is_old(database: AuthDatabase) -> None:
    user, other = await make_user(database), await make_user(database)
    known, unknown = some_key(), some_key()
    async with database.as_worker() as store:
        await store.remember_login_address(user.subject, known, now=NOW, keep=3)

    async with database.as_worker() as store:
        before = NOW - timedelta(seconds=1)
        assert await store.is_login_address(user.id, [unknown, known], since=before)
        assert not await store.is_login_address(user.id, [unknown], since=before)
        assert not await store.is_login_address(user.id, [known], since=NOW)
        assert not await store.is_login_address(other.id, [known], since=before)
        assert not await store.is_login_address(UserId(new_id()), [known], since=before)


async def test_only_the_newest_addresses_are_kept(database: AuthDatabase) -> None:
    user = await make_user(database)
    keys = [some_key() for _ in range(5)]
    for minute, key in enumerate([*keys, keys[2]]):
        async with database.as_worker() as store:
            await store.remember_login_address(user.subject, key, now=NOW + timedelta(minutes=minute), keep=3)

    async with database.as_worker() as store:
        kept = [await store.is_login_address(user.id, [key], since=NOW - timedelta(days=1)) for key in keys]

    assert kept == [False, False, True, True, True]


async def test_old_failures_and_addresses_are_pruned(database: AuthDatabase) -> None:
    user = await make_user(database)
    old, new = some_key(), some_key()
    past = NOW - timedelta(days=365)
    async with database.as_worker() as store:
        await store.put_login_failures({old: LoginFailures(1, past), new: LoginFailures(1, NOW)})
        await store.remember_login_address(user.subject, old, now=past, keep=3)
        await store.remember_login_address(user.subject, new, now=NOW, keep=3)

    async with database.as_worker() as store:
        between = NOW - timedelta(days=200)
        deleted = await store.prune_logins(failed_before=between, seen_before=between, limit=100)

    async with database.as_worker() as store:
        assert set(await store.find_login_failures([old, new])) == {new}
        assert not await store.is_login_address(user.id, [old], since=past - timedelta(days=1))
        assert await store.is_login_address(user.id, [new], since=past)
    assert deleted == 2
