"""Usage of runs that ended at about the same time goes to auth in one call (docs/adr/0017).

The first caller sends what has gathered behind it, so there is no task to own: when it goes away, those who wait are
told to go alone.
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

# What RecordUsageBatch takes.
MAX_ENTRIES: Final = 100
# Auth of the release before does not know the call; an upgrade takes minutes.
_ASK_AGAIN_AFTER_S: Final = 60.0

BatchCall = Callable[[Sequence[pb.UsageEntry]], Awaitable[Collection[str]]]
"""Books the entries and gives the ids of their users who do not exist. Raises auth's MeshError."""


@dataclass(slots=True)
class _Batch:
    entries: list[pb.UsageEntry]
    unknown_user_ids: Collection[str] | None = None
    """None until it is booked, and for ever when each entry is to go alone."""
    error: MeshError | None = None
    """Of auth as a whole, for all callers."""
    is_over: asyncio.Event = field(default_factory=asyncio.Event)


class UsageBatches:
    def __init__(self, send: BatchCall, clock: Clock) -> None:
        self._send = send
        self._clock = clock
        self._gathering: _Batch | None = None
        self._alone_until_s = clock.monotonic_s()

    async def book(self, entry: pb.UsageEntry) -> bool:
        """Books it with others that are asked for in the same step of the event loop.

        False when it must go by a call of its own: nobody else came, auth takes no batches, or it refused this one,
        which may be the fault of another's entry. It may be booked all the same, so the call must be idempotent.

        Raises:
            NotFound: the user does not exist.
            MeshError: one that is retryable ended the call, for all of the batch.
        """
        if self._clock.monotonic_s() < self._alone_until_s:
            return False
        batch = self._gathering
        if batch is None:
            batch = self._gathering = _Batch([entry])
            await self._lead(batch)
        else:
            self._join(batch, entry)
            await batch.is_over.wait()
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
        """Whoever comes now leads the next one."""
        if self._gathering is batch:
            self._gathering = None

    async def _lead(self, batch: _Batch) -> None:
        try:
            # The outbox starts the jobs of one claim in one step of the loop: all of them have come when this goes on.
            await asyncio.sleep(0)
            self._close(batch)
            if len(batch.entries) > 1:
                await self._book(batch)
        finally:
            # Also when the leader is cancelled.
            self._close(batch)
            batch.is_over.set()

    async def _book(self, batch: _Batch) -> None:
        try:
            batch.unknown_user_ids = await self._send(batch.entries)
        except MeshError as error:
            if error.is_retryable:
                batch.error = error
                return
            if error.reason == UNIMPLEMENTED:
                self._alone_until_s = self._clock.monotonic_s() + _ASK_AGAIN_AFTER_S
            log.warning("usage.batch_refused", reason=error.reason, entries=len(batch.entries))
