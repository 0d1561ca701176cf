"""The backlog: how many runs wait over all users and replicas, and that they are not too many (DESIGN §6, point 1)."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mesh_common.database.postgres import Database
from mesh_common.errors import Unavailable

from mesh_agent.domain import RunStatus
from mesh_agent.metrics import RUNS_UNENDED
from mesh_agent.store import runs

# Counting unended runs reads an index of them: cheap, but not for every run that waits.
_COUNT_EVERY_S = 5.0
# By then the runs are counted anew.
_RETRY_AFTER_S = 5.0


class Backlog:
    """Bounds pending runs without a statement: by the last count, and by what came and went here since.

    The slack: what other replicas took in or claimed since the last count (5 s ago at most, longer while the database
    is away) is not seen, so the bound may be passed by that much, or hold that much too early. The runs that came
    while a count was under way may be counted twice, until the next one.
    """

    def __init__(self, database: Database, max_pending: int) -> None:
        self._database = database
        self._max_pending = max_pending
        self._counted = 0
        self._added = 0

    async def run(self) -> None:
        """Counts until cancelled."""
        while True:
            await self.count()
            await asyncio.sleep(_COUNT_EVERY_S)

    async def count(self) -> None:
        """Counts the runs that have not ended; while the database is away the last count stays."""
        before = self._added
        try:
            async with self._database.as_worker() as connection:
                counts = await runs.count_by_status(connection)
        except Unavailable:
            return
        self._counted = counts[RunStatus.PENDING]
        self._added -= before
        for status, count in counts.items():
            RUNS_UNENDED.labels(status).set(count)

    @contextmanager
    def joining(self) -> Iterator[Callable[[], None]]:
        """Gives what takes a place for one more run, and gives the place back when the block fails.

        Taking raises Unavailable (TOO_MANY_PENDING_RUNS) when there is none.
        """
        taken = 0

        def take() -> None:
            nonlocal taken
            if self._counted + self._added >= self._max_pending:
                raise Unavailable(
                    "Too many runs wait already. Try again later.",
                    reason="TOO_MANY_PENDING_RUNS",
                    retry_after_s=_RETRY_AFTER_S,
                )
            taken += 1
            self._added += 1

        is_kept = False
        try:
            yield take
            is_kept = True
        finally:
            if not is_kept:
                self._added -= taken

    def claimed(self, count: int) -> None:
        """That many wait no more. Runs taken over did not wait: they are made good for by the next count."""
        self._added -= count
