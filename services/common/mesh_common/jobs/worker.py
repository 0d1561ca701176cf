"""Works a job queue off: claims, hands to a handler within the job's trace and user, finishes or retries."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import asyncpg
import structlog
from opentelemetry.trace import SpanKind, Status, StatusCode

from mesh_common.caller import Caller, acting
from mesh_common.database.postgres import Database
from mesh_common.errors import MeshError, Unavailable
from mesh_common.jobs.queue import Job, JobQueue
from mesh_common.jobs.settling import Outcome, Settling
from mesh_common.process.metrics import QUEUE_OLDEST_SECONDS
from mesh_common.process.telemetry import restored_context, tracer

log = structlog.get_logger()

_OBSERVE_EVERY_S = 5.0
# What is queued at about the same time is claimed in one transaction; nobody waits for it.
_LINGER_S = 0.1

JobHandler = Callable[[Job], Awaitable[None]]
"""Does a job. Idempotent. A MeshError that is not `is_retryable` ends it; after any other error it comes back later."""


class JobWorker:
    """`run` works until cancelled, at most `concurrency` jobs at once, each within `timeout_s`.

    The lease outlives the timeout, so a job never runs twice at once; `wake` makes it look within a tenth of a second
    instead of at the next poll. Jobs that fail `max_attempts` times are dropped with one log line.
    """

    def __init__(
        self,
        database: Database,
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
            # The process stops: what was being worked on goes to another worker now, not when its lease runs out.
            await self._settling.flush()

    async def _claim_forever(self, group: asyncio.TaskGroup) -> None:
        while True:
            self._wake.clear()
            room = self._room
            jobs = await self._claim(room)
            for job in jobs:
                self._running += 1
                group.create_task(self._work(job))
            if not room or len(jobs) < room:
                await self._rest()

    @property
    def _room(self) -> int:
        return self._concurrency - self._running

    async def _claim(self, room: int) -> list[Job]:
        if not room:
            return []
        try:
            async with self._database.as_worker() as connection:
                return list(await self._queue.claim(connection, limit=room, lease_s=self._timeout_s * 1.5))
        except Unavailable:
            return []
        except asyncpg.SyntaxOrAccessError as error:
            # The schema is older than the code until `migrate` has run; readiness says so meanwhile.
            log.warning("job.queue_not_ready", queue=self._name, error=type(error).__name__)
            return []

    async def _observe(self) -> None:
        """Tells how far behind the queue is, beside the work: a worker without room must still say so."""
        while True:
            with suppress(Unavailable, asyncpg.SyntaxOrAccessError):
                async with self._database.as_worker() as connection:
                    QUEUE_OLDEST_SECONDS.labels(self._name).set(await self._queue.oldest_due_age_s(connection))
            await asyncio.sleep(_OBSERVE_EVERY_S)

    async def _settle(self) -> None:
        while True:
            if await self._settling.next():
                self._wake.set()

    async def _rest(self) -> None:
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
            if not self._room:
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
                with acting(Caller(self._name, job.user_id, None)):
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
