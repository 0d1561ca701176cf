"""The worker of a job queue on the real PostgreSQL."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from mesh_common.caller import require_user
from mesh_common.database.migrate import migrate
from mesh_common.database.postgres import Database
from mesh_common.errors import (
    AlreadyExists,
    Internal,
    InvalidInput,
    MeshError,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from mesh_common.ids import UserId
from mesh_common.jobs.queue import Job
from mesh_common.jobs.worker import JobWorker
from mesh_common.process.telemetry import current_trace_id, tracer
from mesh_dev.postgres import EmbeddedPostgres
from opentelemetry.trace import SpanKind
from prometheus_client import REGISTRY
from sqlalchemy import select
from support.jobs import KIND, LIMITS, QUEUE, add_job, claim_jobs, job_rows, running_worker, until_empty
from support.mesh import TestMesh
from support.net import free_port
from support.scratch import SCHEMA, bootstrapped, jobs, open_scratch, write_migrations
from support.spans import RecordedSpans

pytestmark = pytest.mark.usefixtures("empty_queue")


@dataclass
class Work:
    """A handler that records its arguments."""

    fail: Exception | None = None
    handled: list[Job] = field(default_factory=list)
    called: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, job: Job) -> None:
        self.handled.append(job)
        self.called.set()
        if self.fail:
            raise self.fail


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await condition():
            pass


def _worker(database: Database, handler: Callable[[Job], Awaitable[None]], **changes: Any) -> JobWorker:
    options: dict[str, Any] = {"name": "test", "concurrency": 2, "timeout_s": 30.0, "limits": LIMITS, "poll_s": 0.02}
    return JobWorker(database, QUEUE, {KIND: handler}, **(options | changes))


async def test_a_job_is_handled_for_its_user_in_its_trace_and_taken_off(
    database: Database, spans: RecordedSpans
) -> None:
    seen: list[tuple[UserId, str | None]] = []

    async def handle(_job: Job) -> None:
        seen.append((require_user(), current_trace_id()))

    with tracer.start_as_current_span("turn"):
        await add_job(database)
    async with database.as_worker() as connection:
        user_id = (await connection.execute(select(jobs.c.user_id))).scalar_one()
    async with running_worker(_worker(database, handle)):
        await until_empty(database)

    turn, job_span = spans.named("turn"), spans.named("test.work")
    assert turn.context
    assert seen == [(user_id, f"{turn.context.trace_id:032x}")]
    assert job_span.kind is SpanKind.CONSUMER
    assert job_span.parent
    assert job_span.parent.span_id == turn.context.span_id


async def test_two_workers_handle_each_job_once(database: Database) -> None:
    for number in range(20):
        await add_job(database, str(number))
    first, second = Work(), Work()

    async with running_worker(_worker(database, first)), running_worker(_worker(database, second)):
        await until_empty(database)

    handled = [job.id for job in (*first.handled, *second.handled)]
    assert len(handled) == len(set(handled)) == 20


async def test_a_job_of_a_worker_that_died_is_handled_by_another(database: Database) -> None:
    await add_job(database)
    await claim_jobs(database, lease_s=0.2)
    work = Work()

    async with running_worker(_worker(database, work)):
        await asyncio.wait_for(work.called.wait(), 10)
        await until_empty(database)

    assert [job.attempt for job in work.handled] == [2]


@pytest.mark.parametrize(
    "error",
    [
        Unavailable("away"),
        PermissionDenied("not allowed"),
        Unauthenticated("who?"),
        PreconditionFailed("not yet"),
        Internal("broken"),
        RuntimeError("bug"),
        TimeoutError(),
    ],
)
async def test_a_job_that_may_succeed_later_is_given_back(database: Database, error: Exception) -> None:
    await add_job(database)
    work = Work(fail=error)

    async with running_worker(_worker(database, work)):
        await asyncio.wait_for(work.called.wait(), 10)
        await _until(lambda: _is_given_back(database))

    (row,) = await job_rows(database)
    assert (len(work.handled), row.attempt) == (1, 1)


@pytest.mark.parametrize("error", [InvalidInput("no"), NotFound("no"), TooLarge("no"), AlreadyExists("no")])
async def test_a_job_that_cannot_succeed_is_dropped_at_once(database: Database, error: MeshError) -> None:
    await add_job(database)
    work = Work(fail=error)
    before = _outcomes("dropped")

    async with running_worker(_worker(database, work)):
        await until_empty(database)

    assert len(work.handled) == 1
    assert _outcomes("dropped") == before + 1


async def test_a_job_that_takes_too_long_is_cancelled_and_given_back(database: Database) -> None:
    await add_job(database)
    was_cancelled = asyncio.Event()

    async def hang(_job: Job) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            was_cancelled.set()

    async with running_worker(_worker(database, hang, timeout_s=0.05)):
        await asyncio.wait_for(was_cancelled.wait(), 10)
        await _until(lambda: _is_given_back(database))


async def test_one_bad_job_does_not_stop_the_others(database: Database) -> None:
    async def handle(job: Job) -> None:
        if job.payload:
            raise RuntimeError("bad")

    await add_job(database, "bad", payload={"bad": True})
    for number in range(5):
        await add_job(database, str(number))

    async with running_worker(_worker(database, handle)):
        await _until(lambda: _is_given_back(database))


async def test_no_more_jobs_than_the_bound_run_at_once(database: Database) -> None:
    running: list[int] = [0, 0]
    full, go_on = asyncio.Event(), asyncio.Event()

    async def handle(_job: Job) -> None:
        running[0] += 1
        running[1] = max(running)
        if running[0] == 3:
            full.set()
        await go_on.wait()
        running[0] -= 1

    for number in range(10):
        await add_job(database, str(number))
    async with running_worker(_worker(database, handle, concurrency=3)):
        await asyncio.wait_for(full.wait(), 10)
        leased = [row for row in await job_rows(database) if row.leased_until]
        go_on.set()
        await until_empty(database)

    assert len(leased) == 3
    assert running[1] == 3


async def test_a_wake_up_is_faster_than_the_poll(database: Database) -> None:
    work = Work()
    worker = _worker(database, work, poll_s=3_600.0)

    async with running_worker(worker):
        await _until(lambda: _is_resting(worker))
        await add_job(database)
        worker.wake()
        await asyncio.wait_for(work.called.wait(), 10)


async def test_a_worker_that_is_stopped_cancels_its_jobs_and_gives_them_back_at_once(database: Database) -> None:
    was_cancelled, started = asyncio.Event(), asyncio.Event()

    async def hang(_job: Job) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            was_cancelled.set()

    await add_job(database)
    async with running_worker(_worker(database, hang)):
        await asyncio.wait_for(started.wait(), 10)

    assert was_cancelled.is_set()
    assert await _is_given_back(database)


async def test_a_worker_waits_for_a_schema_that_is_not_migrated_yet(
    postgres: EmbeddedPostgres, test_mesh: TestMesh, tmp_path: Any
) -> None:
    await bootstrapped(postgres, test_mesh.secrets, test_mesh.jwks_file, "late")
    url = test_mesh.database_url(SCHEMA, "owner").replace("/mesh", "/late")
    work = Work()

    async with open_scratch(test_mesh, "late") as late, running_worker(_worker(late, work)):
        await asyncio.sleep(0)
        assert await late.not_ready_reason("0001")
        await asyncio.to_thread(migrate, url, schema=SCHEMA, migrations=write_migrations(tmp_path / "m"))
        await add_job(late)
        await asyncio.wait_for(work.called.wait(), 10)


async def test_a_worker_outlives_an_unavailable_database(test_mesh: TestMesh) -> None:
    url = f"postgresql://a:b@127.0.0.1:{free_port()}/mesh"
    async with open_scratch(test_mesh, "mesh", database_url=url) as away:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                await _worker(away, Work()).run()
                pytest.fail("the worker ended")


async def _is_given_back(database: Database) -> bool:
    rows = await job_rows(database)
    return len(rows) == 1 and rows[0].attempt > 0 and rows[0].leased_until is None


async def _is_resting(worker: JobWorker) -> bool:
    await asyncio.sleep(0)
    return bool(worker._wake._waiters)  # no public attribute shows that it waits


def _outcomes(outcome: str) -> float:
    return REGISTRY.get_sample_value("mesh_queue_jobs_total", {"queue": "test", "outcome": outcome}) or 0.0
