"""Records the outcomes of jobs, many per transaction: a transaction for each would cost as much as the work itself."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import structlog

from mesh_common.database.postgres import Database
from mesh_common.database.statements import AnyConnection
from mesh_common.errors import Unavailable
from mesh_common.jobs.queue import Job, JobQueue
from mesh_common.model_server_waits import MAX_WAIT_S
from mesh_common.process.metrics import QUEUE_JOBS

log = structlog.get_logger()

Outcome = Literal["done", "dropped", "retried", "dead"]
# A model that is slower than its timeout is so each time: retried for days, one job would pay for hundreds of calls.
# These pauses bridge an outage of eleven hours in which a server accepts requests and never answers.
_PAUSES_S: Final = (60.0, 600.0, 3_600.0, 36_000.0)
MAX_PAID_CALLS: Final = len(_PAUSES_S) + 1
# No caller waits for it. If the worker dies in the meantime, these jobs run again, as after any crash.
_LINGER_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Ended:
    """A job whose handler has ended, and why it failed. One without a reason that is not over was cancelled."""

    job: Job
    is_over: bool = False
    """It leaves the queue. All others are retried, or become dead letters."""
    reason: str | None = None
    wait_s: float = 0.0
    """How long the callee asks to wait."""
    may_be_paid: bool = False
    """The attempt may have paid for an answer that did not arrive."""


class Settling:
    """Buffers the outcomes. The buffer is bounded by the claimed jobs: no job is claimed while the database is down."""

    def __init__(self, database: Database[AnyConnection], queue: JobQueue, name: str, *, retry_for_s: float) -> None:
        self._database = database
        self._queue = queue
        self._name = name
        self._retry_for_s = retry_for_s
        self._ended: list[Ended] = []
        self._has_ended = asyncio.Event()

    def add(self, ended: Ended) -> None:
        self._ended.append(ended)
        self._has_ended.set()

    async def next(self) -> bool:
        """Waits for ended jobs and settles them. True if some are due again because they were renewed meanwhile."""
        await self._has_ended.wait()
        await asyncio.sleep(_LINGER_S)
        return await self.flush()

    async def flush(self) -> bool:
        """Settles the buffered outcomes. Returns the same as `next`."""
        # In one order everywhere, or two transactions that settle and delete the same jobs could deadlock.
        ended, self._ended = sorted(self._ended, key=lambda each: each.job.id), []
        self._has_ended.clear()
        if not ended:
            return False
        try:
            outcomes, due = await self._write(ended)
        except Unavailable:
            # The jobs are claimed again when their leases expire.
            log.warning("job.not_settled", queue=self._name, jobs=len(ended))
            return False
        for each, outcome in zip(ended, outcomes, strict=True):
            QUEUE_JOBS.labels(self._name, outcome).inc()
            if outcome == "dead":
                log.error("job.dead", queue=self._name, kind=each.job.kind, id=str(each.job.id), reason=each.reason)
        return due > 0

    async def _write(self, ended: Sequence[Ended]) -> tuple[list[Outcome], int]:
        over = [each.job for each in ended if each.is_over]
        async with self._database.as_worker() as connection:
            outcomes = [await self._settled(connection, each) for each in ended]
            return outcomes, await self._queue.finish(connection, over) if over else 0

    async def _settled(self, connection: AnyConnection, ended: Ended) -> Outcome:
        """Releases the job unless it is over: `finish` takes those off together."""
        if ended.is_over:
            return "dropped" if ended.reason else "done"
        paid_calls = ended.job.paid_calls + ended.may_be_paid
        retry_for_s = 0.0 if paid_calls >= MAX_PAID_CALLS else self._retry_for_s
        if ended.reason and await self._queue.bury(connection, ended.job, ended.reason, retry_for_s=retry_for_s):
            return "dead"
        # A job that was deleted meanwhile cannot be buried, and gets here after its last pause; no row is released.
        pause_s = _PAUSES_S[min(paid_calls, len(_PAUSES_S)) - 1] if ended.may_be_paid else 0.0
        wait_s = max(min(ended.wait_s, MAX_WAIT_S), pause_s)
        await self._queue.retry_later(connection, ended.job, ended.reason, at_least_s=wait_s, paid_calls=paid_calls)
        return "retried"
