"""Processes a job queue: claims jobs, runs a handler in the job's trace and for its subject, finishes or retries."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final

import asyncpg
import structlog
from opentelemetry.trace import SpanKind, Status, StatusCode

from mesh_common.caller import Caller, acting
from mesh_common.database.postgres import Database
from mesh_common.database.statements import AnyConnection
from mesh_common.errors import AlreadyExists, InvalidInput, MeshError, NotFound, TooLarge, Unavailable
from mesh_common.jobs.dead_letters import DeadLetters
from mesh_common.jobs.queue import Job, JobQueue
from mesh_common.jobs.settings import JobLimits
from mesh_common.jobs.settling import Ended, Settling
from mesh_common.model_server import PossiblyPaid
from mesh_common.process.metrics import JOB_DEAD_LETTERS, JOB_UNKNOWN_KINDS, QUEUE_JOBS, QUEUE_OLDEST_SECONDS
from mesh_common.process.telemetry import restored_context, tracer

log = structlog.get_logger()

_OBSERVE_EVERY_S = 5.0
# Delay so that one transaction claims the jobs queued at about the same time. No caller waits for it.
_LINGER_S = 0.1

# Errors of the job itself: it can never succeed. Every other error may be ours, or a wrong setting of an operator.
NEVER_SUCCEEDS: Final = (InvalidInput, NotFound, TooLarge, AlreadyExists)
_EXPIRE_EVERY_S: Final = 60.0

JobHandler = Callable[[Job], Awaitable[None]]
"""Executes a job. Must be idempotent. An error of NEVER_SUCCEEDS drops the job; any other error retries it."""


class JobWorker:
    """`run` processes jobs until cancelled: at most `concurrency` concurrently, each within `timeout_s`.

    The lease outlives the timeout, so a job never runs twice concurrently. `wake` triggers a poll within a tenth of a
    second. Jobs of kinds without a handler are left to a newer replica. A job that still fails when `limits` end its
    retries becomes a dead letter (module `dead_letters`), as does one that has paid for too many answers in vain
    (module `settling`).
    """

    def __init__(
        self,
        database: Database[AnyConnection],
        queue: JobQueue,
        handlers: Mapping[str, JobHandler],
        *,
        name: str,
        concurrency: int,
        timeout_s: float,
        limits: JobLimits,
        poll_s: float = 1.0,
    ) -> None:
        """`handlers` by kind of job."""
        self._database = database
        self._queue = queue
        self._handlers = handlers
        self._name = name
        self._concurrency = concurrency
        self._timeout_s = timeout_s
        self._poll_s = poll_s
        self._limits = limits
        self._settling = Settling(database, queue, name, retry_for_s=limits.retry_for_s)
        self._wake = asyncio.Event()
        self._running = 0

    def wake(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._observe())
                group.create_task(self._expire())
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
                lease_s = self._timeout_s * 1.5
                return list(await self._queue.claim(connection, self._handlers, limit=limit, lease_s=lease_s))
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
                    backlog = await self._queue.backlog(connection, self._handlers)
                QUEUE_OLDEST_SECONDS.labels(self._name).set(backlog.oldest_due_age_s)
                JOB_DEAD_LETTERS.labels(self._name).set(backlog.dead_letters)
                JOB_UNKNOWN_KINDS.labels(self._name).set(backlog.unknown_jobs)
            await asyncio.sleep(_OBSERVE_EVERY_S)

    async def _expire(self) -> None:
        """Deletes dead letters beyond the limits. Concurrent passes of replicas skip each other's rows."""
        letters = DeadLetters(self._queue.table)
        while True:
            with suppress(Unavailable, asyncpg.SyntaxOrAccessError):
                expired = 0
                async with self._database.as_worker() as connection:
                    expired = await letters.expire(connection, self._limits)
                if expired:
                    QUEUE_JOBS.labels(self._name, "expired").inc(expired)
                    log.warning("job.dead_letters_expired", queue=self._name, jobs=expired)
            await asyncio.sleep(_EXPIRE_EVERY_S)

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
        # If the process stops, the job is cancelled and released without a reason.
        ended = Ended(job)
        try:
            ended = await self._handled(job)
        finally:
            self._settling.add(ended)
            if not self._free_slots:
                self._wake.set()
            self._running -= 1

    async def _handled(self, job: Job) -> Ended:
        with tracer.start_as_current_span(
            f"{self._name}.{job.kind}",
            context=restored_context(job.trace_context),
            kind=SpanKind.CONSUMER,
            record_exception=False,
        ) as span:
            try:
                with acting(Caller(self._name, job.subject, None, is_background=True)):
                    async with asyncio.timeout(self._timeout_s):
                        await self._handlers[job.kind](job)
            except Exception as error:  # noqa: BLE001 - one bad job must not end its siblings
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                return self._failed(job, error)
        return Ended(job, is_over=True)

    def _failed(self, job: Job, error: Exception) -> Ended:
        is_over = isinstance(error, NEVER_SUCCEEDS)
        fields = {"queue": self._name, "kind": job.kind, "attempt": job.attempt, "is_dropped": is_over}
        if isinstance(error, MeshError | TimeoutError):
            reason = error.reason if isinstance(error, MeshError) else "TIMEOUT"
            log.warning("job.failed", **fields, reason=reason)
        else:
            reason = f"CRASHED: {type(error).__name__}"
            log.error("job.crashed", **fields, exc_info=error)
        wait_s = error.retry_after_s if isinstance(error, MeshError) else None
        return Ended(job, is_over, reason, wait_s or 0.0, may_be_paid=isinstance(error, PossiblyPaid))
