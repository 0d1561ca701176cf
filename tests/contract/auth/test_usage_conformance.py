"""Usage in the store in memory and in the one on PostgreSQL, so that unit tests rely on real behaviour."""

from datetime import timedelta

from mesh_auth.domain import ModelUsage, Month, UsageEntry
from mesh_auth.ports import AuthDatabase
from mesh_common.ids import UserId, new_id
from support.auth_stores import make_user, some_usage
from support.subjects import elsewhere, personal

NOVEMBER = Month(2026, 11)


async def test_usage_of_a_run_counts_once_in_its_month(database: AuthDatabase) -> None:
    user = await make_user(database)
    small, large = some_usage(model="b", tokens=1), some_usage(model="b", tokens=5)
    before = some_usage(ended_at=NOVEMBER.start - timedelta(microseconds=1))
    first_instant, after = some_usage(model="a", ended_at=NOVEMBER.start), some_usage(ended_at=NOVEMBER.end)

    async with database.as_subject(user.subject) as store:
        for usage in (small, large, small, before, first_instant, after):
            await store.add_usage(user.subject, usage)
        found = list(await store.sum_usage(user.id, NOVEMBER))

    assert found == [ModelUsage("a", 1, 1, 10, 100), ModelUsage("b", 2, 6, 60, 600)]


async def test_usage_is_recorded_for_those_who_have_an_account_only(database: AuthDatabase) -> None:
    user = await make_user(database)
    nobody, usage = UserId(new_id()), some_usage()

    async with database.as_subject(personal(nobody)) as store:
        assert not await store.add_usage(personal(nobody), usage)
        assert not await store.add_usage(user.subject, usage)

    async with database.as_subject(user.subject) as store:
        assert [await store.add_usage(user.subject, usage) for _ in range(2)] == [True, True]
        assert [entry.runs for entry in await store.sum_usage(user.id, NOVEMBER)] == [1]


async def test_usage_is_summed_in_the_organisation_that_it_was_booked_in(database: AuthDatabase) -> None:
    user = await make_user(database)
    other = elsewhere(user.subject)

    async with database.as_subject(other) as store:
        assert await store.add_usage(other, some_usage())
        there = await store.sum_usage(user.id, NOVEMBER)
    async with database.as_subject(user.subject) as store:
        at_home = await store.sum_usage(user.id, NOVEMBER)

    assert [entry.runs for entry in there] == [1]
    assert list(at_home) == []


async def test_a_run_recorded_for_one_user_is_not_moved_to_another(database: AuthDatabase) -> None:
    owner, stranger = await make_user(database), await make_user(database)
    usage = some_usage()
    async with database.as_subject(owner.subject) as store:
        await store.add_usage(owner.subject, usage)

    async with database.as_subject(stranger.subject) as store:
        await store.add_usage(stranger.subject, usage)
        of_stranger = await store.sum_usage(stranger.id, NOVEMBER)

    async with database.as_subject(owner.subject) as store:
        assert [entry.runs for entry in await store.sum_usage(owner.id, NOVEMBER)] == [1]
    assert list(of_stranger) == []


async def test_a_batch_is_booked_for_all_its_users_but_those_who_do_not_exist(database: AuthDatabase) -> None:
    ada, bob = await make_user(database), await make_user(database)
    nobody = UserId(new_id())
    entries = [
        UsageEntry(personal(user_id), some_usage(model=model, tokens=tokens))
        for user_id, model, tokens in ((ada.id, "b", 1), (nobody, "b", 7), (bob.id, "b", 2), (ada.id, "a", 3))
    ]

    async with database.as_worker() as store:
        unknown = await store.add_usage_batch(entries)
        of_ada, of_bob, of_nobody = [
            list(await store.sum_usage(user_id, NOVEMBER)) for user_id in (ada.id, bob.id, nobody)
        ]

    assert unknown == {nobody}
    assert of_ada == [ModelUsage("a", 1, 3, 30, 300), ModelUsage("b", 1, 1, 10, 100)]
    assert of_bob == [ModelUsage("b", 1, 2, 20, 200)]
    assert of_nobody == []


async def test_a_run_is_booked_once_within_a_batch_and_over_batches(database: AuthDatabase) -> None:
    user = await make_user(database)
    known, new, twice = some_usage(tokens=1), some_usage(tokens=2), some_usage(tokens=4)
    async with database.as_subject(user.subject) as store:
        await store.add_usage(user.subject, known)
    entries = [UsageEntry(user.subject, usage) for usage in (twice, known, new, twice)]

    async with database.as_worker() as store:
        assert [await store.add_usage_batch(entries) for _ in range(2)] == [set(), set()]
    async with database.as_subject(user.subject) as store:
        assert await store.add_usage(user.subject, new)
        found = list(await store.sum_usage(user.id, NOVEMBER))

    assert found == [ModelUsage("m", 3, 7, 70, 700)]


async def test_of_one_run_twice_in_a_batch_the_first_counts(database: AuthDatabase) -> None:
    owner, stranger = await make_user(database), await make_user(database)
    usage = some_usage()
    entries = [UsageEntry(owner.subject, usage), UsageEntry(stranger.subject, usage)]

    async with database.as_worker() as store:
        await store.add_usage_batch(entries)
        of_owner, of_stranger = [list(await store.sum_usage(user.id, NOVEMBER)) for user in (owner, stranger)]

    assert [entry.runs for entry in of_owner] == [1]
    assert of_stranger == []


async def test_a_batch_of_strangers_does_nothing_for_a_user(database: AuthDatabase) -> None:
    owner, stranger = await make_user(database), await make_user(database)

    async with database.as_subject(stranger.subject) as store:
        assert await store.add_usage_batch([UsageEntry(owner.subject, some_usage())]) == {owner.id}

    async with database.as_subject(owner.subject) as store:
        assert list(await store.sum_usage(owner.id, NOVEMBER)) == []
