"""Streams that carry the events of many runs to one follower, a gateway, in one message for all that came meanwhile.

A gRPC message wakes three threads on either side, and a busy replica tells dozens of runs within one tick of 25 ms
(`text_window`). Runs are read here when the stream can take a message, never pushed: so nothing is buffered but the
runs' own logs, and whether a lease still holds is asked at the last moment, as for a stream of one run.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from typing import Protocol
from uuid import UUID

from mesh_common.events.model import RunEvent
from mesh_common.ids import RunId

from mesh_agent.events.log import EventLog
from mesh_agent.metrics import FOLLOWERS


class SharedMessage(Protocol):
    """One message in the making: events in order within each run, and runs that are carried no longer though no end
    of theirs was told."""

    def add(self, event: RunEvent) -> bool:
        """False when it is full. Raises ValueError for an event that fits into none."""
        ...

    def leave(self, run_id: RunId) -> None: ...

    @property
    def is_empty(self) -> bool: ...


class _Place:
    """How far one run was read."""

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self.seq = 0
        self.is_over = asyncio.Event()

    def read_into(self, message: SharedMessage) -> bool:
        """False when there is more than the message holds."""
        if self.is_over.is_set():
            return True
        events, has_all = self.log.after(self.seq)
        try:
            for event in events:
                if not message.add(event):
                    return False
                self.seq = event.seq
        except ValueError:
            # Its own stream fails alone.
            has_all = True
        if has_all:
            self.is_over.set()
        return True

    @property
    def has_told_end(self) -> bool:
        return self.log.has_ended and self.seq == len(self.log.events)


class SharedStream[M: SharedMessage]:
    """`carrying` adds a run, `messages` is what the follower gets."""

    def __init__(self, stream_id: UUID, new_message: Callable[[], M]) -> None:
        self.id = stream_id
        self.takes_runs = True
        self._new_message = new_message
        self._places: set[_Place] = set()
        # In the order of their changes; a dict, for a set has none.
        self._changed_places: dict[_Place, None] = {}
        self._left: list[RunId] = []
        self._changed = asyncio.Event()
        self._is_closed = False

    @contextmanager
    def carrying(self, log: EventLog) -> Iterator[asyncio.Event]:
        """Carries a run from its first event, while open; the event comes when it is over, or the stream is."""
        place = _Place(log)
        self._places.add(place)
        try:
            with log.heard_by(lambda: self._mark(place)), FOLLOWERS.track_inprogress():
                self._mark(place)
                if self._is_closed:
                    place.is_over.set()
                yield place.is_over
        finally:
            self._drop(place)

    async def messages(self) -> AsyncGenerator[M]:
        """Ends when the stream takes no runs and its last one is over."""
        while not self._is_closed:
            message = self._taken()
            if not message.is_empty:
                yield message
            elif not self.takes_runs and not self._places:
                return
            else:
                await self._changed.wait()

    def retire(self) -> None:
        """Takes no new runs; those that are carried are, to their end."""
        self.takes_runs = False
        self._changed.set()

    def close(self) -> None:
        """Its follower is gone: nothing is carried any more."""
        self.takes_runs = False
        self._is_closed = True
        for place in self._places:
            place.is_over.set()

    def _taken(self) -> M:
        self._changed.clear()
        message = self._new_message()
        # Only those who left before anything is read here: all that was told of them came before.
        for run_id in self._left:
            message.leave(run_id)
        self._left.clear()
        for place in list(self._changed_places):
            if not place.read_into(message):
                break
            del self._changed_places[place]
        return message

    def _mark(self, place: _Place) -> None:
        self._changed_places[place] = None
        self._changed.set()

    def _drop(self, place: _Place) -> None:
        self._places.discard(place)
        self._changed_places.pop(place, None)
        if not place.has_told_end:
            self._left.append(place.log.claim.run_id)
        if self._left or not self.takes_runs:
            self._changed.set()


class SharedStreams[M: SharedMessage]:
    """The open streams of this replica, by follower."""

    def __init__(self, new_message: Callable[[], M], *, address: str | None, takes_runs_for_s: float) -> None:
        """`address` of this replica as others reach it, None when it is not known: then nobody is invited.
        `takes_runs_for_s`: a connection is cut when it is old, so a stream takes runs only while it is young."""
        self._new_message = new_message
        self._address = address
        self._takes_runs_for_s = takes_runs_for_s
        self._is_stopping = False
        self._open: set[SharedStream[M]] = set()
        self._newest: dict[UUID, SharedStream[M]] = {}

    @contextmanager
    def open(self, follower_id: UUID, stream_id: UUID) -> Iterator[SharedStream[M]]:
        """From here on the one that takes the follower's new runs."""
        stream = SharedStream(stream_id, self._new_message)
        before = self.of(follower_id)
        if before:
            before.retire()
        self._open.add(stream)
        self._newest[follower_id] = stream
        if self._is_stopping:
            stream.retire()
        retirement = asyncio.get_running_loop().call_later(self._takes_runs_for_s, stream.retire)
        try:
            yield stream
        finally:
            retirement.cancel()
            stream.close()
            self._open.discard(stream)
            if self._newest.get(follower_id) is stream:
                del self._newest[follower_id]

    def of(self, follower_id: UUID) -> SharedStream[M] | None:
        """The follower's stream that takes new runs."""
        stream = self._newest.get(follower_id)
        return stream if stream and stream.takes_runs else None

    def invitation(self) -> tuple[str, ...]:
        """The address to open a stream at; none while this replica stops."""
        return () if self._is_stopping or self._address is None else (self._address,)

    def stop(self) -> None:
        """Takes no new runs; every stream ends with the last it has."""
        self._is_stopping = True
        for stream in self._open:
            stream.retire()
