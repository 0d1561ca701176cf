"""Streams that carry the events of many runs to one follower, a gateway, in one message for all that came meanwhile.

A gRPC message wakes three threads on either side, and a busy replica tells dozens of runs within one tick of 25 ms
(`text_window`). Runs are read here when the stream can take more, never pushed: so nothing is buffered but the runs'
own logs, and whether a lease still holds is asked at the last moment, as for a stream of one run.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from mesh_common.ids import RunId

from mesh_agent.attempt_log import AttemptLog
from mesh_agent.events import RunEvent
from mesh_agent.metrics import FOLLOWERS


@dataclass(frozen=True, slots=True)
class Carried:
    """Events in order within each run; `left` are runs that are carried no longer and of which no end was told."""

    events: Sequence[RunEvent]
    left: Sequence[RunId]


class _Place:
    """How far one run was read."""

    def __init__(self, log: AttemptLog) -> None:
        self.log = log
        self.seq = 0
        self.is_over = asyncio.Event()

    def read(self) -> Sequence[RunEvent]:
        events, is_over = self.log.after(self.seq)
        self.seq += len(events)
        if is_over:
            self.is_over.set()
        return events

    @property
    def has_told_end(self) -> bool:
        return self.log.has_ended and self.seq == len(self.log.events)


class SharedStream:
    """`carry` adds a run, `messages` is what the follower gets. Ends when it is retired and its last run is over."""

    def __init__(self, stream_id: UUID) -> None:
        self.id = stream_id
        self.takes_runs = True
        self._places: set[_Place] = set()
        # In the order of their changes; a dict, for a set has none.
        self._changed_places: dict[_Place, None] = {}
        self._left: list[RunId] = []
        self._changed = asyncio.Event()
        self._is_closed = False

    async def carry(self, log: AttemptLog) -> None:
        """Carries a run from its first event; returns when it is over, or the stream is. Cancelled: carries it no
        longer."""
        place = _Place(log)
        self._places.add(place)
        try:
            with log.heard_by(lambda: self._mark(place)), FOLLOWERS.track_inprogress():
                self._mark(place)
                if not self._is_closed:
                    await place.is_over.wait()
        finally:
            self._drop(place)

    async def messages(self) -> AsyncGenerator[Carried]:
        while not self._is_closed:
            await self._changed.wait()
            self._changed.clear()
            carried = self._take()
            if carried.events or carried.left:
                yield carried
            elif not self.takes_runs and not self._places:
                return

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

    def _take(self) -> Carried:
        places, self._changed_places = self._changed_places, {}
        left, self._left = self._left, []
        return Carried([event for place in places for event in place.read()], left)

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


class SharedStreams:
    """The open streams of this replica, by follower."""

    def __init__(self, address: str, takes_runs_for_s: float) -> None:
        """`address` of this replica. `takes_runs_for_s`: a connection is cut when it is old, so a stream takes runs
        only while it is young."""
        self._address = address
        self._takes_runs_for_s = takes_runs_for_s
        self._is_stopping = False
        self._open: set[SharedStream] = set()
        self._newest: dict[UUID, SharedStream] = {}

    @contextmanager
    def open(self, follower_id: UUID, stream_id: UUID) -> Iterator[SharedStream]:
        """From here on the one that takes the follower's new runs."""
        stream = SharedStream(stream_id)
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

    def of(self, follower_id: UUID) -> SharedStream | None:
        """The follower's stream that takes new runs."""
        stream = self._newest.get(follower_id)
        return stream if stream and stream.takes_runs else None

    def invitation(self) -> tuple[str, ...]:
        """The address to open a stream at; none while this replica stops."""
        return () if self._is_stopping else (self._address,)

    def stop(self) -> None:
        """Takes no new runs; every stream ends with the last it has."""
        self._is_stopping = True
        for stream in self._open:
            stream.retire()
