"""What following a turn needs of the agent, and of the protocol that shows it."""

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
from mesh_gateway.runs.events import EventPosition, RunOrder


class EventSource:
    """Events as they come, with a look at the next one."""

    def __init__(self, events: AsyncIterator[RunEvent]) -> None:
        self._events = events
        self._next: RunEvent | None = None

    async def peek(self) -> RunEvent | None:
        """Waits for the next event and leaves it there; None when no more will come. Raises as reading does."""
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
    """A run that was acknowledged, and its events from here on."""

    run_id: RunId
    thread_id: str
    """Empty where a followed run had ended and its stream did not say it."""
    events: EventSource
    has_ended: bool | None = None
    """Of a followed run; None where the agent did not say."""


class Follower(Protocol):
    def follow_run(
        self, subject: Subject, run_id: RunId, after: EventPosition | None
    ) -> AbstractAsyncContextManager[OpenedRun]:
        """The events of a run after a position. Raises MeshError, also from reading."""
        ...


class Agent(Follower, Protocol):
    def start_run(self, subject: Subject, order: RunOrder) -> AbstractAsyncContextManager[OpenedRun]:
        """A run that is durable from here on; leaving the block ends the following only. Raises MeshError."""
        ...

    async def run(self, subject: Subject, run_id: RunId) -> Run: ...

    async def cancel_run(self, subject: Subject, run_id: RunId) -> Run: ...


class Limits(Protocol):
    async def charge(self, limit: Limit, identity: str, record: RequestRecord) -> None:
        """Counts one request and puts the state of the limit into the record. Raises RateLimited."""
        ...


class StreamEnd(Enum):
    """Why no more events come."""

    COMPLETE = "complete"
    """The run has ended, and the stream said how."""
    CUT = "cut"
    """The run can be followed from here no longer; the client shall come back."""
    REPLICA_STOPS = "replica_stops"
    """The same, at once and elsewhere."""


class Encoder(Protocol):
    """How a protocol writes the events of one run. One object a stream: it may remember what it wrote."""

    @property
    def media_type(self) -> str: ...

    def encode(self, event: RunEvent) -> bytes:
        """Nothing for an event that the protocol has no words for."""
        ...

    def ping(self) -> bytes:
        """What shows that the stream lives while the run says nothing."""
        ...

    def end(self, end: StreamEnd) -> bytes:
        """What closes the stream; may be nothing."""
        ...
