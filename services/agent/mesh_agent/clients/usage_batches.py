"""Books the usage of runs that ended at about the same time in one call to auth (docs/adr/0017).

The first caller of a batch sends it, so no task has to own it. If that caller is cancelled, the others book their
entries alone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog
from mesh.auth.v1 import auth_pb2 as pb
from mesh_common.clock import Clock
from mesh_common.errors import MeshError, NotFound
from mesh_common.grpc.error_wire import UNIMPLEMENTED

log = structlog.get_logger()

# Limit of RecordUsageBatch.
MAX_ENTRIES: Final = 100
# Auth of the previous release does not know the call. An upgrade takes minutes.
_RETRY_BATCHES_AFTER_S: Final = 60.0

BatchCall = Callable[[Sequence[pb.UsageEntry]], Awaitable[Collection[str]]]
"""Books the entries and returns the ids of the users who do not exist. Raises auth's MeshError."""


@dataclass(slots=True)
class _Batch:
    entries: list[pb.UsageEntry]
    unknown_user_ids: Collection[str] | None = None
    """None until the batch is booked; stays None if each caller must book its own entry."""
    error: MeshError | None = None
    """A retryable error, raised to all callers."""
    is_done: asyncio.Event = field(default_factory=asyncio.Event)


class UsageBatches:
    def __init__(self, send: BatchCall, clock: Clock) -> None:
        self._send = send
        self._clock = clock
        self._open_batch: _Batch | None = None
        self._unbatched_until_s = clock.monotonic_s()

    async def book(self, entry: pb.UsageEntry) -> bool:
        """Books the entry together with others that arrive in the same step of the event loop.

        Returns False if the caller must book it in a call of its own: no other entry arrived, auth accepts no batches,
        or auth rejected this batch, possibly because of another entry. The entry may have been booked nevertheless, so
        that call must be idempotent.

        Raises:
            NotFound: the user does not exist.
            MeshError: the call of the batch failed with a retryable error.
        """
        if self._clock.monotonic_s() < self._unbatched_until_s:
            return False
        batch = self._open_batch
        if batch is None:
            batch = self._open_batch = _Batch([entry])
            await self._send_after_this_step(batch)
        else:
            self._join(batch, entry)
            await batch.is_done.wait()
        if batch.error:
            raise batch.error
        if batch.unknown_user_ids is None:
            return False
        if entry.user_id in batch.unknown_user_ids:
            raise NotFound("There is no such user.")
        return True

    def _join(self, batch: _Batch, entry: pb.UsageEntry) -> None:
        batch.entries.append(entry)
        if len(batch.entries) == MAX_ENTRIES:
            self._close(batch)

    def _close(self, batch: _Batch) -> None:
        """The next caller starts a new batch."""
        if self._open_batch is batch:
            self._open_batch = None

    async def _send_after_this_step(self, batch: _Batch) -> None:
        try:
            # The outbox starts the jobs of one claim in one step of the event loop, so all of them have joined when
            # this continues.
            await asyncio.sleep(0)
            self._close(batch)
            if len(batch.entries) > 1:
                await self._book(batch)
        finally:
            # Also if this caller is cancelled.
            self._close(batch)
            batch.is_done.set()

    async def _book(self, batch: _Batch) -> None:
        try:
            batch.unknown_user_ids = await self._send(batch.entries)
        except MeshError as error:
            if error.is_retryable:
                batch.error = error
                return
            if error.reason == UNIMPLEMENTED:
                self._unbatched_until_s = self._clock.monotonic_s() + _RETRY_BATCHES_AFTER_S
            log.warning("usage.batch_refused", reason=error.reason, entries=len(batch.entries))
