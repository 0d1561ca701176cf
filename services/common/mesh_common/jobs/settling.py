"""Records the outcomes of jobs, many per transaction: a transaction for each would cost as much as the work itself."""

import asyncio
from collections.abc import Sequence
from typing import Final, Literal

import structlog

from mesh_common.database.postgres import Database
from mesh_common.database.statements import AnyConnection
from mesh_common.errors import Unavailable
from mesh_common.jobs.queue import Job, JobQueue
from mesh_common.process.metrics import QUEUE_JOBS

log = structlog.get_logger()

Outcome = Literal["done", "dropped", "retried"]
# No caller waits for it. If the worker dies in the meantime, these jobs run again, as after any crash.
_LINGER_S: Final = 0.1


class Settling:
    """Buffers the outcomes. The buffer is bounded by the claimed jobs: no job is claimed while the database is down."""

    def __init__(self, database: Database[AnyConnection], queue: JobQueue, name: str) -> None:
        self._database = database
        self._queue = queue
        self._name = name
        self._ended: list[tuple[Job, Outcome]] = []
        self._has_ended = asyncio.Event()

    def add(self, job: Job, outcome: Outcome) -> None:
        self._ended.append((job, outcome))
        self._has_ended.set()

    async def next(self) -> bool:
        """Waits for ended jobs and settles them. True if some are due again because they were renewed meanwhile."""
        await self._has_ended.wait()
        await asyncio.sleep(_LINGER_S)
        return await self.flush()

    async def flush(self) -> bool:
        """Settles the buffered outcomes. Returns the same as `next`."""
        ended, self._ended = self._ended, []
        self._has_ended.clear()
        if not ended:
            return False
        try:
            due = await self._write(ended)
        except Unavailable:
            # The jobs are claimed again when their leases expire.
            log.warning("job.not_settled", queue=self._name, jobs=len(ended))
            return False
        for _, outcome in ended:
            QUEUE_JOBS.labels(self._name, outcome).inc()
        return due > 0

    async def _write(self, ended: Sequence[tuple[Job, Outcome]]) -> int:
        over = [job for job, outcome in ended if outcome != "retried"]
        async with self._database.as_worker() as connection:
            for job, outcome in ended:
                if outcome == "retried":
                    await self._queue.retry_later(connection, job)
            return await self._queue.finish(connection, over) if over else 0
