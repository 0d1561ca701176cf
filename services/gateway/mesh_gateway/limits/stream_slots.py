"""Limits how many runs clients follow through this replica. Ends these streams when the replica stops, and those of a
session when it is revoked."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final

from mesh_common.errors import MeshError, RateLimited, Unavailable
from mesh_common.ids import UserId
from mesh_common.jwt import invalid_token

from mesh_gateway.metrics import OPEN_STREAMS, REFUSALS

_RETRY_AFTER_S: Final = 5.0

type UntilLeft = Callable[[], Awaitable[object]]
"""Returns when the client has disconnected, however its protocol signals that."""


class Closing(Enum):
    """Why this replica ends a stream before its run ends."""

    REPLICA_STOPS = auto()
    REVOKED = auto()
    """The session was revoked. The run continues, but this client may no longer see it."""


@dataclass(eq=False, slots=True)
class StreamSlot:
    """One slot for an open stream."""

    closed_by: Closing | None = None
    has_client_left: bool = False
    _on_close: Callable[[], object] = field(default=lambda: None)

    def when_closed(self, call: Callable[[], object]) -> None:
        """Sets `call`, which ends the work in this slot. Calls it at once if the slot is closed."""
        self._on_close = call
        if self.closed_by:
            call()

    def require_session(self) -> None:
        """Raises Unauthenticated if the slot was closed because its session was revoked."""
        if self.closed_by is Closing.REVOKED:
            raise invalid_token()

    def close(self, by: Closing) -> None:
        self.closed_by = by
        self._on_close()


class OpenStreams:
    def __init__(self, *, max_open: int, max_per_user: int, is_revoked: Callable[[str], bool]) -> None:
        """`is_revoked` says whether the session with this id was revoked."""
        self._max_open = max_open
        self._max_per_user = max_per_user
        self._is_revoked = is_revoked
        self._slots: set[StreamSlot] = set()
        self._by_session: defaultdict[str, set[StreamSlot]] = defaultdict(set)
        self._by_user: Counter[UserId] = Counter()
        self._is_closed = False
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def slot(self, user_id: UserId, session_id: str) -> Iterator[StreamSlot]:
        """Holds a slot while open. Raises Unavailable at the replica's limit, RateLimited at the user's.

        Raises Unauthenticated if the session was revoked after the request was authenticated: `end_session` did not
        know this stream then.
        """
        if self._is_revoked(session_id):
            raise invalid_token()
        self._require_room(user_id)
        slot = StreamSlot()
        self._slots.add(slot)
        self._by_session[session_id].add(slot)
        self._by_user[user_id] += 1
        self._idle.clear()
        OPEN_STREAMS.inc()
        try:
            yield slot
        finally:
            self._release(slot, user_id, session_id)

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
            slot.close(Closing.REPLICA_STOPS)
        return len(open_slots)

    def end_session(self, session_id: str) -> None:
        """Ends the streams of a session that was revoked."""
        for slot in list(self._by_session.get(session_id, ())):
            slot.close(Closing.REVOKED)

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

    def _release(self, slot: StreamSlot, user_id: UserId, session_id: str) -> None:
        self._slots.discard(slot)
        self._by_session[session_id].discard(slot)
        if not self._by_session[session_id]:
            del self._by_session[session_id]
        self._by_user[user_id] -= 1
        if not self._by_user[user_id]:
            del self._by_user[user_id]
        OPEN_STREAMS.dec()
        if not self._slots:
            self._idle.set()


async def while_connected[T](until_left: UntilLeft, slot: StreamSlot, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of `work`; None if the client disconnects first, which cancels the work.

    None also if the session is revoked first. The caller raises `slot.require_session` after it has closed the call to
    the agent, which would take that error for one of its own. Raises the work's MeshError; Unavailable when the replica
    stops first.
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
    if slot.closed_by is Closing.REPLICA_STOPS:
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
