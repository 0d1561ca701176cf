"""The backlog: counts and limits the pending runs of all users and replicas."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mesh_common.errors import Unavailable

from mesh_agent.domain.runs import RunStatus
from mesh_agent.metrics import RUNS_UNENDED
from mesh_agent.store import Database, unended

# Counting unended runs reads an index of them: cheap, but too expensive for every pending run.
_COUNT_EVERY_S = 5.0
# After this time the runs have been counted again.
_RETRY_AFTER_S = 5.0


class Backlog:
    """Limits pending runs without running a statement: uses the last count and this replica's changes since.

    The limit is approximate. It does not see the runs that other replicas accepted or claimed since the last count (at
    most 5 s ago, longer while the database is unavailable), so it may be exceeded by that many, or apply that many too
    early. Runs accepted while a count is in progress may be counted twice, until the next count.
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
        """Counts the unended runs. Keeps the last count while the database is unavailable."""
        before = self._added
        try:
            async with self._database.as_worker() as connection:
                counts = await unended.count_by_status(connection)
        except Unavailable:
            return
        self._counted = counts[RunStatus.PENDING]
        self._added -= before
        for status, count in counts.items():
            RUNS_UNENDED.labels(status).set(count)

    @contextmanager
    def joining(self) -> Iterator[Callable[[], None]]:
        """Yields a function that takes a slot for one more pending run. Frees the slot if the block fails.

        The function raises Unavailable (TOO_MANY_PENDING_RUNS) if there is no free slot.
        """
        taken = 0

        def take_slot() -> None:
            nonlocal taken
            if self._counted + self._added >= self._max_pending:
                raise Unavailable(
                    "Too many runs are pending. Try again later.",
                    reason="TOO_MANY_PENDING_RUNS",
                    retry_after_s=_RETRY_AFTER_S,
                )
            taken += 1
            self._added += 1

        is_kept = False
        try:
            yield take_slot
            is_kept = True
        finally:
            if not is_kept:
                self._added -= taken

    def claimed(self, count: int) -> None:
        """Subtracts claimed runs. Runs that were taken over were not pending; the next count corrects for them."""
        self._added -= count
