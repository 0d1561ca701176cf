"""Transactions that lock the same rows lock them in the same order: run, thread, lease."""

import asyncio
from uuid import UUID

from mesh_agent.domain.runs import RunInput
from mesh_agent.store import claims, starts, threads
from mesh_agent.store.starts import NewRun
from mesh_common.database.postgres import Database
from mesh_common.ids import RunId, ThreadId
from sqlalchemy import text
from support.agent import eventually, some_user
from support.locks import waiting_for_locks
from support.replicas import claimed_by_a_dead_owner, insert_pending
from support.subjects import personal

_LOCK_RUN = text("SELECT id FROM agent.runs WHERE id = :run_id FOR UPDATE")
_LOCK_LEASE = text("SELECT run_id FROM agent.leases WHERE run_id = :run_id FOR UPDATE")
_END_RUN = text("UPDATE agent.runs SET status = 'succeeded' WHERE id = :run_id RETURNING thread_id")
_STATE = text("""
    SELECT runs.status, leases.owner FROM agent.runs LEFT JOIN agent.leases ON leases.run_id = runs.id
    WHERE runs.id = :run_id
""")


async def test_release_and_an_end_or_deletion_at_the_same_time_do_not_deadlock(own_database: Database) -> None:
    run_id = await insert_pending(own_database, some_user(), "Hello")
    claim = await claimed_by_a_dead_owner(own_database, run_id, ttl_s=60)

    async def release() -> None:
        async with own_database.as_worker() as connection:
            await claims.release_run(connection, claim)

    async with asyncio.TaskGroup() as group, own_database.as_worker() as ending:
        await ending.execute(_LOCK_RUN, {"run_id": run_id})
        group.create_task(release())
        await eventually(lambda: waiting_for_locks(own_database), bool)
        await ending.execute(_LOCK_LEASE, {"run_id": run_id})

    async with own_database.as_worker() as connection:
        row = (await connection.execute(_STATE, {"run_id": run_id})).one()
    assert tuple(row) == ("pending", None)


async def test_a_repeated_start_does_not_wait_for_the_end_of_its_run(own_database: Database) -> None:
    """The end waits for the thread, which the start has locked."""
    user_id = some_user()
    subject, run_id = personal(user_id), RunId(UUID(await insert_pending(own_database, user_id, "Hello")))
    async with own_database.as_worker() as ending:
        row = (await ending.execute(_END_RUN, {"run_id": run_id})).one()
        thread_id = ThreadId(row.thread_id)
        again = RunInput(run_id, thread_id, "Hello")

        async with own_database.as_subject(subject) as starting:
            await threads.lock_thread(starting, user_id, thread_id)
            inserted = await starts.insert_run(starting, subject, thread_id, NewRun(again, b"hash"))

    assert inserted is not None
    assert not inserted.is_new


async def test_release_of_a_run_that_was_taken_over_changes_nothing(own_database: Database) -> None:
    run_id = await insert_pending(own_database, some_user(), "Hello")
    stale = await claimed_by_a_dead_owner(own_database, run_id)
    await claimed_by_a_dead_owner(own_database, run_id, ttl_s=60)

    async with own_database.as_worker() as connection:
        await claims.release_run(connection, stale)
        row = (await connection.execute(_STATE, {"run_id": run_id})).one()

    assert row.status == "running"
    assert row.owner is not None
