"""Jobs of the scratch schema (support/scratch.py): added, claimed, read, processed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from mesh_common.database.postgres import Database
from mesh_common.jobs.queue import Job, JobQueue, NewJob
from mesh_common.jobs.settings import JobLimits
from mesh_common.jobs.worker import JobWorker
from sqlalchemy import case, func, select, update

from support.scratch import jobs
from support.subjects import some_subject

QUEUE = JobQueue(jobs.fullname)
KIND = "work"
DAY_S = 86_400.0
LIMITS = JobLimits(retry_for_s=3 * DAY_S, keep_dead_s=30 * DAY_S, max_dead=100)


async def add_job(
    database: Database,
    key: str = "k",
    *,
    kind: str = KIND,
    delay_s: float = 0.0,
    payload: dict[str, Any] | None = None,
) -> bool:
    subject = some_subject()
    async with database.as_subject(subject) as connection:
        return await QUEUE.add(connection, NewJob(kind, key, subject, payload or {}, delay_s))


async def claim_jobs(database: Database, *, limit: int = 10, lease_s: float = 60.0) -> list[Job]:
    async with database.as_worker() as connection:
        return list(await QUEUE.claim(connection, [KIND], limit=limit, lease_s=lease_s))


async def job_rows(database: Database) -> list[Any]:
    """`due_in` is None for a dead letter."""
    due_in = case((func.isfinite(jobs.c.due_at), jobs.c.due_at - func.now()))
    columns = (jobs.c.attempt, jobs.c.leased_until, due_in.label("due_in"))
    async with database.as_worker() as connection:
        return list((await connection.execute(select(*columns))).all())


async def expire_leases(database: Database) -> None:
    async with database.as_worker() as connection:
        await connection.execute(update(jobs).values(leased_until=func.now() - timedelta(seconds=1)))


async def until_empty(database: Database) -> None:
    async with asyncio.timeout(20):
        while await job_rows(database):
            pass


@asynccontextmanager
async def running_worker(worker: JobWorker) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(worker.run())
        yield
        task.cancel()
