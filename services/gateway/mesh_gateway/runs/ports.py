"""The ports of a turn: the agent, the rate limits, and the protocol that encodes the events."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from mesh_common.events.model import RunEvent
from mesh_common.ids import RunId
from mesh_common.subject import Subject

from mesh_gateway.domain import Run
from mesh_gateway.limits.rate_limit import Limit
from mesh_gateway.request_record import RequestRecord
from mesh_gateway.runs.order import RunOrder
from mesh_gateway.runs.position import EventPosition


class EventSource:
    """Events as they come; `peek` shows the next one."""

    def __init__(self, events: AsyncIterator[RunEvent]) -> None:
        self._events = events
        self._next: RunEvent | None = None

    async def peek(self) -> RunEvent | None:
        """Waits for the next event without consuming it; None after the last one. Raises as reading does."""
        if self._next is None:
            self._next = await anext(self._events, None)
        return self._next

    def __aiter__(self) -> AsyncIterator[RunEvent]:
        return self

    async def __anext__(self) -> RunEvent:
        if self._next is None:
            return await anext(self._events)
        event, self._next = self._next, None
        return event


@dataclass(frozen=True, slots=True)
class OpenedRun:
    """An acknowledged run and its events from here on."""

    run_id: RunId
    thread_id: str
    """Empty if a followed run had ended and its stream did not name the thread."""
    events: EventSource
    has_ended: bool | None = None
    """Only for a followed run; None if the agent did not report it."""


class Follower(Protocol):
    def follow_run(
        self, subject: Subject, run_id: RunId, after: EventPosition | None
    ) -> AbstractAsyncContextManager[OpenedRun]:
        """The events of a run after a position. Opening and reading raise MeshError."""
        ...


class Agent(Follower, Protocol):
    def start_run(self, subject: Subject, order: RunOrder) -> AbstractAsyncContextManager[OpenedRun]:
        """A run that is durable from here on. Leaving the block ends the stream, not the run. Raises MeshError."""
        ...

    async def run(self, subject: Subject, run_id: RunId) -> Run: ...

    async def cancel_run(self, subject: Subject, run_id: RunId) -> Run: ...


class Limits(Protocol):
    async def charge(self, limit: Limit, identity: str, record: RequestRecord) -> None:
        """Counts one request and adds the limit's state to the record. Raises RateLimited."""
        ...


class StreamEnd(Enum):
    """Why no more events come."""

    COMPLETE = "complete"
    """The run has ended, and its terminal event was sent."""
    CUT = "cut"
    """This replica can no longer follow the run; the client should reconnect."""
    REPLICA_STOPS = "replica_stops"
    """As CUT, but the client should reconnect at once, to another replica."""
    REVOKED = "revoked"
    """The client's session was revoked. The run continues; the client must log in again to see it."""


class Encoder(Protocol):
    """Encodes the events of one run for a protocol. One object per stream, so it may keep state."""

    @property
    def media_type(self) -> str: ...

    def encode(self, event: RunEvent) -> bytes:
        """Empty for an event that the protocol cannot express."""
        ...

    def ping(self) -> bytes:
        """A keep-alive while the run sends no events."""
        ...

    def end(self, end: StreamEnd) -> bytes:
        """The bytes that close the stream; may be empty."""
        ...
