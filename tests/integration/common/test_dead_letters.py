"""Jobs that failed for days, and jobs of kinds that a worker does not know, on the real PostgreSQL."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from mesh_common.database.postgres import Database
from mesh_common.errors import PermissionDenied
from mesh_common.ids import new_id
from mesh_common.jobs.dead_letters import EVERY, Selection
from mesh_common.jobs.queue import Job, NewJob
from mesh_common.jobs.worker import JobHandler, JobWorker
from prometheus_client import REGISTRY
from sqlalchemy import func, select, text, update
from support.buried_jobs import LETTERS, bury, letters_of
from support.jobs import KIND, LIMITS, QUEUE, add_job, claim_jobs, job_rows, running_worker, until_empty
from support.scratch import jobs
from support.subjects import some_subject

pytestmark = pytest.mark.usefixtures("empty_queue")
# What release 0.1.0 and the ones after it run on the same table.
_CLAIM_OF_RELEASE_BEFORE = """
    WITH due AS (
        SELECT id FROM eval.jobs
        WHERE due_at <= now() AND (leased_until IS NULL OR leased_until < now())
        ORDER BY due_at LIMIT 10
        FOR UPDATE SKIP LOCKED
    )
    UPDATE eval.jobs AS job
    SET leased_until = now() + make_interval(secs => 60), attempt = job.attempt + 1
    FROM due WHERE job.id = due.id
    RETURNING job.id
"""
_RENEW_OF_RELEASE_BEFORE = """
    INSERT INTO eval.jobs AS job (id, kind, key, user_id, payload, trace_context, due_at, first_due_at)
    SELECT gen_random_uuid(), kind, key, user_id, '{"turn": 2}', '{}', now(), now() FROM eval.jobs
    ON CONFLICT (kind, key) DO UPDATE SET
        payload = excluded.payload,
        version = job.version + 1,
        due_at = CASE WHEN job.attempt = 0
            THEN least(excluded.due_at, job.created_at + make_interval(secs => 10)) ELSE job.due_at END,
        first_due_at = CASE WHEN job.attempt = 0
            THEN least(excluded.due_at, job.created_at + make_interval(secs => 10)) ELSE job.first_due_at END
"""


def _worker(database: Database, handlers: dict[str, JobHandler], **changes: Any) -> JobWorker:
    options: dict[str, Any] = {"name": "letters", "concurrency": 2, "timeout_s": 30.0, "limits": LIMITS, "poll_s": 0.02}
    return JobWorker(database, QUEUE, handlers, **(options | changes))


async def _refused(_job: Job) -> None:
    raise PermissionDenied("The key of the model is wrong.", reason="MISCONFIGURED")


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await condition():
            pass


async def _set(database: Database, **values: Any) -> None:
    async with database.as_worker() as connection:
        await connection.execute(update(jobs).values(**values))


async def test_a_job_that_failed_for_days_is_kept_and_counted(database: Database) -> None:
    await add_job(database)
    await _set(database, first_due_at=func.now() - timedelta(days=3, seconds=1), attempt=500)
    before = _outcomes("dead")

    async with running_worker(_worker(database, {KIND: _refused})):
        await _until(lambda: _has_letters(database))
        await _until(lambda: _is_gauge("mesh_job_dead_letters", 1.0, database))

    [letter] = await letters_of(database)
    assert (letter.kind, letter.reason) == (KIND, "MISCONFIGURED")
    assert _outcomes("dead") == before + 1
    assert await claim_jobs(database) == []


async def test_a_job_that_has_failed_for_less_than_the_bound_is_retried_however_often(database: Database) -> None:
    await add_job(database)
    await _set(database, first_due_at=func.now() - timedelta(days=2, hours=23), attempt=5_000)

    async with running_worker(_worker(database, {KIND: _refused})):
        await _until(lambda: _is_given_back(database))

    assert await letters_of(database) == []


async def test_a_job_cancelled_by_the_end_of_its_process_does_not_die_of_it(database: Database) -> None:
    await add_job(database)
    await _set(database, first_due_at=func.now() - timedelta(days=9))
    started = asyncio.Event()

    async def hang(_job: Job) -> None:
        started.set()
        await asyncio.Event().wait()

    async with running_worker(_worker(database, {KIND: hang})):
        await asyncio.wait_for(started.wait(), 10)

    assert await letters_of(database) == []
    assert await _is_given_back(database)


async def test_letters_that_are_sent_again_are_handled(database: Database) -> None:
    dead = await bury(database, payload={"turn": 1})
    other = await bury(database, "other", kind="other")
    handled: list[Job] = []

    async def handle(job: Job) -> None:
        handled.append(job)

    async with database.as_worker() as connection:
        sent = [
            await LETTERS.send_again(connection, Selection(id=new_id())),
            await LETTERS.send_again(connection, Selection(kind=KIND)),
            await LETTERS.send_again(connection, Selection(kind=KIND)),
        ]
    async with running_worker(_worker(database, {KIND: handle, "other": handle})):
        await _until(lambda: _has_rows(database, 1))

    assert sent == [0, 1, 0]
    assert [(job.id, job.payload, job.attempt) for job in handled] == [(dead, {"turn": 1}, 1)]
    assert [letter.id for letter in await letters_of(database)] == [other]


async def test_a_letter_sent_again_has_the_whole_time_for_retries(database: Database) -> None:
    await bury(database)
    await _set(database, created_at=func.now() - timedelta(days=20))
    async with database.as_worker() as connection:
        await LETTERS.send_again(connection, EVERY)

    async with running_worker(_worker(database, {KIND: _refused})):
        await _until(lambda: _is_given_back(database))

    assert await letters_of(database) == []


async def test_letters_are_listed_by_page_last_failed_first(database: Database) -> None:
    ids = [await bury(database, str(number)) for number in range(5)]

    async with database.as_worker() as connection:
        first = await LETTERS.page(connection, EVERY, limit=3)
        rest = await LETTERS.page(connection, EVERY, limit=3, after=first[-1].place)

    assert [letter.id for letter in (*first, *rest)] == ids[::-1]
    assert [letter.id for letter in await letters_of(database, Selection(id=ids[1]))] == [ids[1]]
    assert await letters_of(database, Selection(kind="other")) == []


async def test_letters_beyond_the_age_and_the_number_are_deleted_oldest_first(database: Database) -> None:
    ids = [await bury(database, str(number)) for number in range(4)]
    await add_job(database, "alive")
    async with database.as_worker() as connection:
        old = update(jobs).where(jobs.c.id == ids[0])
        await connection.execute(old.values(failed_at=func.now() - timedelta(days=31)))
        by_age = await LETTERS.expire(connection, LIMITS)
        by_number = await LETTERS.expire(connection, replace(LIMITS, max_dead=2))

    assert (by_age, by_number) == (1, 1)
    assert [letter.id for letter in await letters_of(database)] == [ids[3], ids[2]]
    assert len(await claim_jobs(database)) == 1


async def test_a_worker_deletes_letters_beyond_the_bounds(database: Database) -> None:
    for number in range(3):
        await bury(database, str(number))

    async with running_worker(_worker(database, {}, limits=replace(LIMITS, max_dead=0))):
        await until_empty(database)


async def test_renewing_a_dead_job_makes_it_a_new_one(database: Database) -> None:
    await bury(database)
    await _set(database, created_at=func.now() - timedelta(days=9))
    subject = some_subject()

    async with database.as_worker() as connection:
        await QUEUE.renew(connection, [NewJob(KIND, "k", subject, {"turn": 2}, delay_s=60.0)])

    [row] = await job_rows(database)
    assert timedelta(seconds=50) < row.due_in <= timedelta(seconds=60)
    assert await letters_of(database) == []


async def test_the_release_before_leaves_letters_alone_and_can_renew_them(database: Database) -> None:
    await bury(database)

    async with database.as_worker() as connection:
        claimed = (await connection.execute(text(_CLAIM_OF_RELEASE_BEFORE))).all()
        await connection.execute(text(_RENEW_OF_RELEASE_BEFORE))
    [job] = await claim_jobs(database)

    assert claimed == []
    assert job.payload == {"turn": 2}


async def test_rows_of_the_release_before_are_processed(database: Database) -> None:
    insert = """
        INSERT INTO eval.jobs (id, kind, key, user_id, payload, trace_context)
        VALUES (gen_random_uuid(), 'work', 'old', gen_random_uuid(), '{"turn": 1}', '{}')
    """
    async with database.as_worker() as connection:
        await connection.execute(text(insert))
    payloads: list[dict[str, Any]] = []

    async def handle(job: Job) -> None:
        payloads.append(job.payload)

    async with running_worker(_worker(database, {KIND: handle})):
        await until_empty(database)

    assert payloads == [{"turn": 1}]


async def test_an_older_worker_leaves_kinds_it_does_not_know_to_a_newer_one(database: Database) -> None:
    by_older: list[str] = []
    by_newer: list[str] = []

    async def older(job: Job) -> None:
        by_older.append(job.kind)

    async def newer(job: Job) -> None:
        by_newer.append(job.kind)

    await add_job(database, "a", kind="forget")
    async with running_worker(_worker(database, {KIND: older}, name="older")):
        await add_job(database, "b")
        await _until(lambda: _has_rows(database, 1))
        await _until(lambda: _is_gauge("mesh_job_unknown_kinds", 1.0, database, queue="older"))
        [waiting] = await job_rows(database)
        async with running_worker(_worker(database, {"forget": newer}, name="newer")):
            await until_empty(database)

    assert (waiting.attempt, waiting.leased_until) == (0, None)
    assert (by_older, by_newer) == ([KIND], ["forget"])


async def _has_letters(database: Database) -> bool:
    return bool(await letters_of(database))


async def _has_rows(database: Database, count: int) -> bool:
    async with database.as_worker() as connection:
        return (await connection.execute(select(func.count()).select_from(jobs))).scalar_one() == count


async def _is_given_back(database: Database) -> bool:
    rows = await job_rows(database)
    return len(rows) == 1 and rows[0].attempt > 0 and rows[0].leased_until is None


async def _is_gauge(name: str, value: float, database: Database, *, queue: str = "letters") -> bool:
    await job_rows(database)
    return REGISTRY.get_sample_value(name, {"queue": queue}) == value


def _outcomes(outcome: str) -> float:
    return REGISTRY.get_sample_value("mesh_queue_jobs_total", {"queue": "letters", "outcome": outcome}) or 0.0
