"""Processes a job queue: claims jobs, runs a handler in the job's trace and for its subject, finishes or retries."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import asyncpg
import structlog
from opentelemetry.trace import SpanKind, Status, StatusCode

from mesh_common.caller import Caller, acting
from mesh_common.database.postgres import Database
from mesh_common.database.statements import AnyConnection
from mesh_common.errors import MeshError, Unavailable
from mesh_common.jobs.queue import Job, JobQueue
from mesh_common.jobs.settling import Outcome, Settling
from mesh_common.process.metrics import QUEUE_OLDEST_SECONDS
from mesh_common.process.telemetry import restored_context, tracer

log = structlog.get_logger()

_OBSERVE_EVERY_S = 5.0
# Delay so that one transaction claims the jobs queued at about the same time. No caller waits for it.
_LINGER_S = 0.1

JobHandler = Callable[[Job], Awaitable[None]]
"""Executes a job. Must be idempotent. A MeshError with `is_retryable` false drops the job; other errors retry it."""


class JobWorker:
    """`run` processes jobs until cancelled: at most `concurrency` concurrently, each within `timeout_s`.

    The lease outlives the timeout, so a job never runs twice concurrently. `wake` triggers a poll within a tenth of a
    second. A job that fails `max_attempts` times is dropped with one log line.
    """

    def __init__(
        self,
        database: Database[AnyConnection],
        queue: JobQueue,
        handler: JobHandler,
        *,
        name: str,
        concurrency: int,
        timeout_s: float,
        max_attempts: int,
        poll_s: float = 1.0,
    ) -> None:
        self._database = database
        self._queue = queue
        self._handler = handler
        self._name = name
        self._concurrency = concurrency
        self._timeout_s = timeout_s
        self._poll_s = poll_s
        self._max_attempts = max_attempts
        self._settling = Settling(database, queue, name)
        self._wake = asyncio.Event()
        self._running = 0

    def wake(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._observe())
                group.create_task(self._settle())
                await self._claim_forever(group)
        finally:
            # The process stops: hand unfinished jobs to other workers now, not when their leases expire.
            await self._settling.flush()

    async def _claim_forever(self, group: asyncio.TaskGroup) -> None:
        while True:
            self._wake.clear()
            free_slots = self._free_slots
            jobs = await self._claim(free_slots)
            for job in jobs:
                self._running += 1
                group.create_task(self._work(job))
            if not free_slots or len(jobs) < free_slots:
                await self._wait_for_work()

    @property
    def _free_slots(self) -> int:
        return self._concurrency - self._running

    async def _claim(self, limit: int) -> list[Job]:
        if not limit:
            return []
        try:
            async with self._database.as_worker() as connection:
                return list(await self._queue.claim(connection, limit=limit, lease_s=self._timeout_s * 1.5))
        except Unavailable:
            return []
        except asyncpg.SyntaxOrAccessError as error:
            # Until `migrate` has run, the schema is older than the code; readiness reports it.
            log.warning("job.queue_not_ready", queue=self._name, error=type(error).__name__)
            return []

    async def _observe(self) -> None:
        """Reports the queue's backlog concurrently with the work, so that a fully occupied worker reports it too."""
        while True:
            with suppress(Unavailable, asyncpg.SyntaxOrAccessError):
                async with self._database.as_worker() as connection:
                    QUEUE_OLDEST_SECONDS.labels(self._name).set(await self._queue.oldest_due_age_s(connection))
            await asyncio.sleep(_OBSERVE_EVERY_S)

    async def _settle(self) -> None:
        while True:
            if await self._settling.next():
                self._wake.set()

    async def _wait_for_work(self) -> None:
        try:
            async with asyncio.timeout(self._poll_s):
                await self._wake.wait()
        except TimeoutError:
            return
        await asyncio.sleep(_LINGER_S)

    async def _work(self, job: Job) -> None:
        outcome: Outcome = "retried"
        try:
            outcome = await self._handled(job)
        finally:
            self._settling.add(job, outcome)
            if not self._free_slots:
                self._wake.set()
            self._running -= 1

    async def _handled(self, job: Job) -> Outcome:
        with tracer.start_as_current_span(
            f"{self._name}.{job.kind}",
            context=restored_context(job.trace_context),
            kind=SpanKind.CONSUMER,
            record_exception=False,
        ) as span:
            try:
                with acting(Caller(self._name, job.subject, None)):
                    async with asyncio.timeout(self._timeout_s):
                        await self._handler(job)
            except Exception as error:  # noqa: BLE001 - one bad job must not end its siblings
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                return self._outcome_of(job, error)
        return "done"

    def _outcome_of(self, job: Job, error: Exception) -> Outcome:
        is_retryable = isinstance(error, TimeoutError) or not isinstance(error, MeshError) or error.is_retryable
        outcome: Outcome = "retried" if is_retryable and job.attempt < self._max_attempts else "dropped"
        if isinstance(error, MeshError | TimeoutError):
            reason = error.reason if isinstance(error, MeshError) else "TIMEOUT"
            log.warning(
                "job.failed", queue=self._name, kind=job.kind, attempt=job.attempt, outcome=outcome, reason=reason
            )
        else:
            log.error(
                "job.crashed", queue=self._name, kind=job.kind, attempt=job.attempt, outcome=outcome, exc_info=error
            )
        return outcome
