"""Usage of many users' runs in one call, over the real server and the real PostgreSQL."""

import asyncio
from collections.abc import Sequence

import pytest
from mesh.auth.v1 import auth_pb2
from mesh_auth import convert
from mesh_auth.domain import UsageEntry
from mesh_auth.store.accounts import PostgresAuthDatabase
from mesh_auth.tables import users
from mesh_common.clock import utc_now
from mesh_common.database.postgres import Database
from mesh_common.errors import InvalidInput, PermissionDenied
from mesh_common.grpc.client import ServiceCalls
from mesh_common.ids import UserId, new_id, parse_id
from sqlalchemy import delete
from support.auth import AuthUnderTest
from support.locks import waiting_for_locks
from support.subjects import personal


async def book(
    auth: AuthUnderTest, entries: Sequence[auth_pb2.UsageEntry], calls: ServiceCalls | None = None
) -> list[str]:
    """Returns the users reported as unknown."""
    request = auth_pb2.RecordUsageBatchRequest(entries=entries)
    response = await (calls or auth.agent).unary(auth.stub.RecordUsageBatch, request, timeout_s=10)
    return list(response.unknown_user_ids)


async def new_user(auth: AuthUnderTest) -> UserId:
    return UserId(parse_id((await auth.register()).id, "id"))


def some_entry(user_id: UserId, *, tokens: int = 1) -> auth_pb2.UsageEntry:
    usage = auth_pb2.RecordUsageRequest(run_id=str(new_id()), model="m", input_tokens=tokens)
    usage.ended_at.FromDatetime(utc_now())
    return auth_pb2.UsageEntry(user_id=str(user_id), usage=usage)


async def booked(auth: AuthUnderTest, user_id: UserId) -> tuple[int, int]:
    """The number of runs, and their tokens."""
    response = await auth.gateway.unary(
        auth.stub.GetUsage, auth_pb2.GetUsageRequest(), timeout_s=5, subject=personal(user_id)
    )
    return sum(entry.runs for entry in response.models), sum(entry.input_tokens for entry in response.models)


async def erase(database: Database, user_id: UserId) -> None:
    async with database.as_worker() as connection:
        await connection.execute(delete(users).where(users.c.user_id == user_id))


async def test_each_user_is_billed_for_what_he_ran(auth: AuthUnderTest) -> None:
    ada, bob = await new_user(auth), await new_user(auth)

    unknown = await book(auth, [some_entry(ada, tokens=1), some_entry(bob, tokens=2), some_entry(ada, tokens=4)])

    assert unknown == []
    assert await booked(auth, ada) == (2, 5)
    assert await booked(auth, bob) == (1, 2)


async def test_what_a_batch_books_counts_against_the_users_budget(auth: AuthUnderTest) -> None:
    user_id = await new_user(auth)

    await book(auth, [some_entry(user_id, tokens=30)])

    request = auth_pb2.GetEntitlementsRequest()
    response = await auth.agent.unary(auth.stub.GetEntitlements, request, timeout_s=5, subject=personal(user_id))
    assert response.entitlements.used_tokens == 30


async def test_users_who_are_erased_or_never_were_are_left_out_and_named(
    auth: AuthUnderTest, auth_database: Database
) -> None:
    user_id, erased, nobody = await new_user(auth), await new_user(auth), UserId(new_id())
    await erase(auth_database, erased)

    unknown = await book(auth, [some_entry(erased), some_entry(user_id), some_entry(nobody), some_entry(erased)])

    assert set(unknown) == {str(erased), str(nobody)}
    assert len(unknown) == 2
    assert await booked(auth, user_id) == (1, 1)


async def test_a_user_who_is_being_erased_is_waited_for_and_left_out(
    auth: AuthUnderTest, auth_database: Database
) -> None:
    user_id, erased = await new_user(auth), await new_user(auth)

    async with asyncio.TaskGroup() as group, auth_database.as_worker() as connection:
        await connection.execute(delete(users).where(users.c.user_id == erased))
        booking = group.create_task(book(auth, [some_entry(erased), some_entry(user_id)]))
        while not await waiting_for_locks(auth_database):
            pass

    assert booking.result() == [str(erased)]
    assert await booked(auth, user_id) == (1, 1)


async def test_a_run_counts_once_however_often_and_in_whichever_call_it_comes(auth: AuthUnderTest) -> None:
    user_id = await new_user(auth)
    alone, twice = some_entry(user_id, tokens=1), some_entry(user_id, tokens=2)
    await auth.agent.unary(auth.stub.RecordUsage, alone.usage, timeout_s=5, subject=personal(user_id))

    await book(auth, [twice, alone, twice])
    await book(auth, [twice, alone])
    await auth.agent.unary(auth.stub.RecordUsage, twice.usage, timeout_s=5, subject=personal(user_id))

    assert await booked(auth, user_id) == (2, 3)


async def test_batches_that_overlap_wait_in_no_circle(auth: AuthUnderTest, auth_database: Database) -> None:
    """Tested below the server, because a caller would resend a batch that PostgreSQL aborted for a deadlock."""
    user_id = await new_user(auth)
    database = PostgresAuthDatabase(auth_database)
    request = auth_pb2.RecordUsageBatchRequest(entries=[some_entry(user_id) for _ in range(3)])
    first, middle, last = convert.usage_entries(request)

    async def add(*entries: UsageEntry) -> set[UserId]:
        async with database.as_worker() as store:
            return await store.add_usage_batch(entries)

    # Both are blocked midway. If they inserted in the given order, each would then hold what the other needs.
    async with asyncio.TaskGroup() as group, database.as_worker() as store:
        await store.add_usage_batch([middle])
        batches = [group.create_task(add(first, middle, last)), group.create_task(add(last, middle, first))]
        while await waiting_for_locks(auth_database) < len(batches):
            pass

    assert [batch.result() for batch in batches] == [set(), set()]
    assert await booked(auth, user_id) == (3, 3)


async def test_one_bad_entry_refuses_the_batch_and_is_named(auth: AuthUnderTest) -> None:
    user_id = await new_user(auth)
    bad = some_entry(user_id)
    bad.usage.model = ""

    with pytest.raises(InvalidInput) as caught:
        await book(auth, [some_entry(user_id), bad])

    assert caught.value.fields[0].field == "entries[1].usage.model"
    assert await booked(auth, user_id) == (0, 0)


async def test_a_batch_without_entries_is_refused(auth: AuthUnderTest) -> None:
    with pytest.raises(InvalidInput) as caught:
        await book(auth, [])

    assert caught.value.fields[0].field == "entries"


async def test_nobody_but_the_agent_books(auth: AuthUnderTest) -> None:
    user_id = await new_user(auth)

    with pytest.raises(PermissionDenied) as caught:
        await book(auth, [some_entry(user_id)], auth.gateway)

    assert caught.value.reason == "EDGE_NOT_ALLOWED"
    assert await booked(auth, user_id) == (0, 0)
