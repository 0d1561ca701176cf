"""Limits how many runs clients follow through this replica, and ends these streams when the replica stops."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from mesh_common.errors import MeshError, RateLimited, Unavailable
from mesh_common.ids import UserId

from mesh_gateway.metrics import OPEN_STREAMS, REFUSALS

_RETRY_AFTER_S = 5.0

type UntilLeft = Callable[[], Awaitable[object]]
"""Returns when the client has disconnected, however its protocol signals that."""


@dataclass(eq=False, slots=True)
class StreamSlot:
    """One slot for an open stream."""

    is_closed: bool = False
    has_client_left: bool = False
    _on_close: Callable[[], object] = field(default=lambda: None)

    def when_closed(self, call: Callable[[], object]) -> None:
        """Sets `call`, which ends the work in this slot when the replica can wait no longer."""
        self._on_close = call
        if self.is_closed:
            call()

    def close(self) -> None:
        self.is_closed = True
        self._on_close()


class OpenStreams:
    def __init__(self, *, max_open: int, max_per_user: int) -> None:
        self._max_open = max_open
        self._max_per_user = max_per_user
        self._slots: set[StreamSlot] = set()
        self._by_user: Counter[UserId] = Counter()
        self._is_closed = False
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def slot(self, user_id: UserId) -> Iterator[StreamSlot]:
        """Holds a slot while open. Raises Unavailable at the replica's limit, RateLimited at the user's."""
        self._require_room(user_id)
        slot = StreamSlot()
        self._slots.add(slot)
        self._by_user[user_id] += 1
        self._idle.clear()
        OPEN_STREAMS.inc()
        try:
            yield slot
        finally:
            self._release(slot, user_id)

    async def wait_until_idle(self, limit_s: float) -> None:
        """Returns when no stream is open, or after `limit_s`."""
        try:
            async with asyncio.timeout(limit_s):
                await self._idle.wait()
        except TimeoutError:
            return

    def close_all(self) -> int:
        """Ends open streams, rejects new ones, and returns how many it ended. Clients reconnect with Last-Event-ID."""
        self._is_closed = True
        open_slots = list(self._slots)
        for slot in open_slots:
            slot.close()
        return len(open_slots)

    def _require_room(self, user_id: UserId) -> None:
        if self._is_closed:
            raise Unavailable("This replica is shutting down. Try again.", reason="REPLICA_STOPS")
        if self._by_user[user_id] >= self._max_per_user:
            REFUSALS.labels("streams-per-user").inc()
            raise RateLimited(
                "You have too many open streams. Close one first.",
                reason="TOO_MANY_STREAMS",
                retry_after_s=_RETRY_AFTER_S,
            )
        if len(self._slots) >= self._max_open:
            REFUSALS.labels("streams").inc()
            raise Unavailable(
                "Too many streams are open here. Try again.", reason="STREAMS_FULL", retry_after_s=_RETRY_AFTER_S
            )

    def _release(self, slot: StreamSlot, user_id: UserId) -> None:
        self._slots.discard(slot)
        self._by_user[user_id] -= 1
        if not self._by_user[user_id]:
            del self._by_user[user_id]
        OPEN_STREAMS.dec()
        if not self._slots:
            self._idle.set()


async def while_connected[T](until_left: UntilLeft, slot: StreamSlot, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of `work`; None if the client disconnects first, which cancels the work.

    Raises the work's MeshError; Unavailable when the replica stops first.
    """
    result, error = await _raced(until_left, slot, work)
    if error:
        raise error
    return result


async def _raced[T](
    until_left: UntilLeft, slot: StreamSlot, work: Coroutine[Any, Any, T]
) -> tuple[T | None, MeshError | None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(_outcome(work))
        watcher = group.create_task(cancel_when_left(until_left, slot, task))
        slot.when_closed(task.cancel)
        task.add_done_callback(lambda _: watcher.cancel())
    work.close()  # if it was cancelled before its first step: Python warns of coroutines that were never awaited
    slot.when_closed(lambda: None)  # otherwise the slot would keep the task alive, and with it the error
    if not task.cancelled():
        return task.result()
    if slot.is_closed:
        return None, Unavailable("This replica is shutting down; the run continues.", reason="REPLICA_STOPS")
    return None, None


async def cancel_when_left(until_left: UntilLeft, slot: StreamSlot, task: "asyncio.Task[Any]") -> None:
    await until_left()
    slot.has_client_left = True
    task.cancel()


async def _outcome[T](work: Coroutine[Any, Any, T]) -> tuple[T | None, MeshError | None]:
    # A task group would wrap the error into a group of errors.
    try:
        return await work, None
    except MeshError as error:
        return None, error
