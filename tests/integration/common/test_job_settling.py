"""How finished jobs leave the queue, on the real PostgreSQL."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from mesh_common.database.postgres import Database
from mesh_common.jobs.queue import Job, JobQueue, NewJob
from mesh_common.jobs.worker import JobWorker
from sqlalchemy.ext.asyncio import AsyncConnection
from support.jobs import KIND, LIMITS, QUEUE, add_job, running_worker, until_empty
from support.scratch import jobs

pytestmark = pytest.mark.usefixtures("empty_queue")


class WatchedQueue(JobQueue):
    """Records how many jobs were finished in each transaction."""

    def __init__(self) -> None:
        super().__init__(jobs.fullname)
        self.finished: list[int] = []

    async def finish(self, connection: AsyncConnection, jobs: Sequence[Job]) -> int:
        self.finished.append(len(jobs))
        return await super().finish(connection, jobs)


async def test_jobs_that_end_together_are_settled_in_one_transaction(database: Database) -> None:
    for number in range(10):
        await add_job(database, str(number))
    all_here = asyncio.Barrier(10)

    async def handle(_job: Job) -> None:
        await all_here.wait()

    queue = WatchedQueue()
    worker = JobWorker(database, queue, {KIND: handle}, name="test", concurrency=10, timeout_s=30.0, limits=LIMITS)
    async with running_worker(worker):
        await until_empty(database)

    assert queue.finished == [10]


async def test_a_job_renewed_while_it_is_processed_is_due_before_the_next_poll(database: Database) -> None:
    await add_job(database)
    payloads: list[Any] = []

    async def handle(job: Job) -> None:
        payloads.append(job.payload)
        if not job.payload:
            async with database.as_subject(job.subject) as connection:
                await QUEUE.renew(connection, [NewJob("work", "k", job.subject, {"turn": 2})])

    async with running_worker(
        JobWorker(
            database,
            QUEUE,
            {KIND: handle},
            name="test",
            concurrency=2,
            timeout_s=30.0,
            limits=LIMITS,
            poll_s=3_600.0,
        )
    ):
        await until_empty(database)

    assert payloads == [{}, {"turn": 2}]
