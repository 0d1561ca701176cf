"""The job queue on the real PostgreSQL."""

import asyncio
from datetime import timedelta

import pytest
from mesh_common.database.postgres import Database
from mesh_common.jobs.queue import Backlog, NewJob
from sqlalchemy import delete, func, update
from support.jobs import KIND, QUEUE, add_job, claim_jobs, expire_leases, job_rows
from support.scratch import jobs

pytestmark = pytest.mark.usefixtures("empty_queue")


async def test_a_job_is_queued_once_by_its_key(database: Database) -> None:
    assert [await add_job(database, "a"), await add_job(database, "a"), await add_job(database, "b")] == [
        True,
        False,
        True,
    ]


async def test_jobs_queued_at_once_under_one_key_are_one(database: Database) -> None:
    added = await asyncio.gather(*(add_job(database, "a") for _ in range(8)))

    assert sum(added) == 1


async def test_two_claims_at_once_never_share_a_job(database: Database) -> None:
    for number in range(20):
        await add_job(database, str(number))

    claims = await asyncio.gather(*(claim_jobs(database, limit=7) for _ in range(4)))

    assert all(len(claim) <= 7 for claim in claims)
    claimed = [job.id for claim in claims for job in claim]
    assert len(claimed) == len(set(claimed)) == 20


async def test_a_claim_passes_over_jobs_another_transaction_is_claiming(database: Database) -> None:
    await add_job(database, "a")
    await add_job(database, "b")

    async with database.as_worker() as first, database.as_worker() as second:
        mine = await QUEUE.claim(first, [KIND], limit=1, lease_s=60)
        others = await QUEUE.claim(second, [KIND], limit=10, lease_s=60)

    assert len(mine) == len(others) == 1
    assert mine[0].id != others[0].id


async def test_a_leased_job_comes_back_when_its_lease_runs_out(database: Database) -> None:
    await add_job(database)
    (first,) = await claim_jobs(database)
    while_leased = await claim_jobs(database)

    await expire_leases(database)
    (second,) = await claim_jobs(database)

    assert while_leased == []
    assert (first.id, first.attempt, second.id, second.attempt) == (second.id, 1, first.id, 2)


async def test_a_worker_that_lost_its_lease_finishes_nothing(database: Database) -> None:
    await add_job(database)
    (stale,) = await claim_jobs(database)
    await expire_leases(database)
    await claim_jobs(database)

    async with database.as_worker() as connection:
        due = await QUEUE.finish(connection, [stale])
        await QUEUE.retry_later(connection, stale)

    (row,) = await job_rows(database)
    assert due == 0
    assert row.leased_until is not None


@pytest.mark.parametrize(("attempt", "delay_s"), [(1, 1), (2, 2), (5, 16), (30, 300), (2_000, 300)])
async def test_a_job_given_back_waits_longer_each_time_up_to_five_minutes(
    database: Database, attempt: int, delay_s: int
) -> None:
    await add_job(database)
    async with database.as_worker() as connection:
        await connection.execute(update(jobs).values(attempt=attempt - 1))
    (job,) = await claim_jobs(database)

    async with database.as_worker() as connection:
        await QUEUE.retry_later(connection, job)

    (row,) = await job_rows(database)
    assert row.leased_until is None
    assert timedelta(seconds=delay_s - 1) < row.due_in <= timedelta(seconds=delay_s)
    assert await claim_jobs(database) == []


async def test_a_delayed_job_is_not_due_yet(database: Database) -> None:
    await add_job(database, delay_s=60)

    assert await claim_jobs(database) == []


async def test_a_job_renewed_while_it_is_processed_is_processed_again(database: Database) -> None:
    await add_job(database, payload={"turn": 1})
    (job,) = await claim_jobs(database)

    async with database.as_worker() as connection:
        await QUEUE.renew(connection, [NewJob("work", "k", job.subject, {"turn": 2})])
        due = await QUEUE.finish(connection, [job])
    (again,) = await claim_jobs(database)

    assert due == 1
    assert again.payload == {"turn": 2}


async def test_several_are_queued_or_renewed_at_once(database: Database) -> None:
    await add_job(database, "a", payload={"turn": 1})
    (job,) = await claim_jobs(database)

    async with database.as_subject(job.subject) as connection:
        await QUEUE.renew(connection, [NewJob("work", key, job.subject, {"turn": 2}) for key in ("b", "a", "c")])
    async with database.as_worker() as connection:
        await QUEUE.finish(connection, [job])

    assert sorted(job.payload["turn"] for job in await claim_jobs(database)) == [2, 2, 2]


async def test_a_job_in_back_off_is_not_hurried_by_being_renewed(database: Database) -> None:
    await add_job(database)
    async with database.as_worker() as connection:
        await connection.execute(update(jobs).values(attempt=8))
    (job,) = await claim_jobs(database)

    async with database.as_worker() as connection:
        await QUEUE.retry_later(connection, job)
        await QUEUE.renew(connection, [NewJob("work", "k", job.subject, {"turn": 2})])

    (row,) = await job_rows(database)
    assert row.due_in > timedelta(seconds=200)


async def test_a_job_in_back_off_counts_as_waiting_since_it_was_due_first(database: Database) -> None:
    await add_job(database)
    async with database.as_worker() as connection:
        await connection.execute(update(jobs).values(first_due_at=func.now() - timedelta(seconds=90)))
    (job,) = await claim_jobs(database)

    async with database.as_worker() as connection:
        await QUEUE.retry_later(connection, job)
        age_s = (await QUEUE.backlog(connection, [KIND])).oldest_due_age_s

    assert 90 <= age_s < 100


async def test_the_age_of_the_oldest_due_job_is_reported(database: Database) -> None:
    await add_job(database)
    async with database.as_worker() as connection:
        before = await QUEUE.backlog(connection, [KIND])
        await connection.execute(update(jobs).values(first_due_at=func.now() - timedelta(seconds=90)))
        after = await QUEUE.backlog(connection, [KIND])
        await connection.execute(delete(jobs))
        empty = await QUEUE.backlog(connection, [KIND])

    assert before.oldest_due_age_s < 10
    assert 90 <= after.oldest_due_age_s < 100
    assert empty == Backlog(0.0, 0, 0)
