"""Jobs that may pay for each try: how long they wait, and when they are given up, on the real PostgreSQL."""

import asyncio
from datetime import timedelta

import pytest
from mesh_common.database.postgres import Database
from mesh_common.errors import Unavailable
from mesh_common.jobs.dead_letters import DeadLetters, Selection
from mesh_common.jobs.queue import Job
from mesh_common.jobs.settling import MAX_PAID_CALLS
from mesh_common.jobs.worker import JobWorker
from mesh_common.model_server import PossiblyPaid
from sqlalchemy import delete, func, update
from support.jobs import KIND, LIMITS, QUEUE, add_job, job_rows, running_worker, until_empty
from support.scratch import jobs

pytestmark = pytest.mark.usefixtures("empty_queue")
LETTERS = DeadLetters(jobs.fullname)
EVERY = Selection()


class Model:
    """Fails each job with this error, and counts the calls."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        self.calls = 0

    async def __call__(self, _job: Job) -> None:
        self.calls += 1
        raise self._error


async def _tried(database: Database, model: Model) -> float:
    """One more try. Returns the seconds until the next one; infinite for a dead letter."""
    before = model.calls
    async with database.as_worker() as connection:
        await connection.execute(update(jobs).values(due_at=func.now()))
    worker = JobWorker(
        database, QUEUE, {KIND: model}, name="paid", concurrency=1, timeout_s=30.0, limits=LIMITS, poll_s=0.02
    )
    async with running_worker(worker), asyncio.timeout(20):
        while True:
            was_called = model.calls > before
            [row] = await job_rows(database)
            if was_called and row.leased_until is None:
                return float("inf") if row.due_in is None else float(row.due_in.total_seconds())


async def test_job_pays_for_five_calls_in_vain_with_growing_pauses_and_is_kept(database: Database) -> None:
    await add_job(database)
    model = Model(PossiblyPaid("No answer.", reason="MODEL_TIMEOUT"))

    pauses_s = [await _tried(database, model) for _ in range(MAX_PAID_CALLS)]

    assert [round(pause_s, -1) for pause_s in pauses_s] == [60, 600, 3_600, 36_000, float("inf")]
    assert model.calls == 5
    async with database.as_worker() as connection:
        [letter] = await LETTERS.page(connection, EVERY, limit=10)
        assert letter.reason == "MODEL_TIMEOUT"
        await LETTERS.send_again(connection, EVERY)

    # Whoever sends it again has changed something: it has all its tries.
    assert round(await _tried(database, model), -1) == 60


async def test_failures_that_cost_nothing_are_not_counted(database: Database) -> None:
    await add_job(database)
    away, slow = Model(Unavailable("Away.")), Model(PossiblyPaid("No answer."))

    for _ in range(MAX_PAID_CALLS):
        assert await _tried(database, away) < 60

    assert round(await _tried(database, slow), -1) == 60
    for _ in range(MAX_PAID_CALLS):
        await _tried(database, away)
    assert round(await _tried(database, slow), -1) == 600


@pytest.mark.parametrize(("asked_s", "waits_s"), [(120.0, 120.0), (0.001, 1.0), (10_000.0, 3_600.0)])
async def test_job_waits_as_long_as_the_callee_asks_up_to_an_hour(
    database: Database, asked_s: float, waits_s: float
) -> None:
    await add_job(database)

    left_s = await _tried(database, Model(Unavailable("Busy.", retry_after_s=asked_s)))

    assert timedelta(seconds=waits_s - 20) < timedelta(seconds=left_s) <= timedelta(seconds=waits_s)


async def test_job_that_is_deleted_during_its_last_paid_call_ends_without_harm(database: Database) -> None:
    """Deletions of users and threads delete their jobs while workers have them."""
    await add_job(database)
    await add_job(database, "other")
    async with database.as_worker() as connection:
        await connection.execute(update(jobs).values(paid_calls=MAX_PAID_CALLS - 1))

    async def answer(job: Job) -> None:
        async with database.as_worker() as connection:
            await connection.execute(delete(jobs).where(jobs.c.id == job.id))
        raise PossiblyPaid("No answer.")

    worker = JobWorker(
        database, QUEUE, {KIND: answer}, name="paid", concurrency=1, timeout_s=30.0, limits=LIMITS, poll_s=0.02
    )
    async with running_worker(worker):
        await until_empty(database)
