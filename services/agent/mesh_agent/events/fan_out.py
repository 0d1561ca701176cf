"""Streams that carry the events of many runs to one follower (a gateway). Each message holds all events so far.

A gRPC message wakes three threads on either side, and a busy replica sends events of dozens of runs at one tick
(`coalescing`). A stream reads its runs when it can send a message; runs push nothing. So only the runs' own logs
buffer events, and the lease is checked at the last moment, as for a stream of one run.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from mesh_common.events.model import RunEvent
from mesh_common.ids import RunId

from mesh_agent.events.log import EventLog
from mesh_agent.metrics import FOLLOWERS


class SharedMessage(Protocol):
    """A message being built: events, in order within each run, and the runs that left the stream before their terminal
    event was sent."""

    def add(self, event: RunEvent) -> bool:
        """False if the message is full. Raises ValueError for an event that is too large for any message."""
        ...

    def leave(self, run_id: RunId) -> None: ...

    @property
    def is_empty(self) -> bool: ...


class _CarriedRun:
    """A run on a shared stream, and how far it was read."""

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self.seq = 0
        self.is_over = asyncio.Event()

    def read_into(self, message: SharedMessage) -> bool:
        """False if the message is full before all events are in it."""
        if self.is_over.is_set():
            return True
        events, has_all = self.log.after(self.seq)
        try:
            for event in events:
                if not message.add(event):
                    return False
                self.seq = event.seq
        except ValueError:
            # The run leaves this stream. The stream on which its follower then follows it fails alone.
            has_all = True
        if has_all:
            self.is_over.set()
        return True

    @property
    def has_sent_end(self) -> bool:
        return self.log.has_ended and self.seq == len(self.log.events)


class SharedStream[M: SharedMessage]:
    """`carrying` adds a run; `messages` yields what the follower receives."""

    def __init__(self, stream_id: UUID, new_message: Callable[[], M]) -> None:
        self.id = stream_id
        self.takes_runs = True
        self._new_message = new_message
        self._runs: set[_CarriedRun] = set()
        # A dict, because it keeps the order of the changes.
        self._changed_runs: dict[_CarriedRun, None] = {}
        self._left: list[RunId] = []
        self._changed = asyncio.Event()
        self._is_closed = False

    @contextmanager
    def carrying(self, log: EventLog) -> Iterator[asyncio.Event]:
        """Carries a run from its first event while open. The yielded event is set when the run or stream is over."""
        run = _CarriedRun(log)
        self._runs.add(run)
        try:
            with log.heard_by(lambda: self._mark(run)), FOLLOWERS.track_inprogress():
                self._mark(run)
                if self._is_closed:
                    run.is_over.set()
                yield run.is_over
        finally:
            self._drop(run)

    async def messages(self) -> AsyncGenerator[M]:
        """Ends when the stream accepts no more runs and its last run is over."""
        while not self._is_closed:
            message = self._next_message()
            if not message.is_empty:
                yield message
            elif not self.takes_runs and not self._runs:
                return
            else:
                await self._changed.wait()

    def retire(self) -> None:
        """Accepts no new runs and carries the present ones to their end."""
        self.takes_runs = False
        self._changed.set()

    def close(self) -> None:
        """The follower disconnected: stops carrying all runs."""
        self.takes_runs = False
        self._is_closed = True
        for run in self._runs:
            run.is_over.set()

    def _next_message(self) -> M:
        self._changed.clear()
        message = self._new_message()
        # Before reading: all events of the runs that left by now are in earlier messages.
        for run_id in self._left:
            message.leave(run_id)
        self._left.clear()
        for run in list(self._changed_runs):
            if not run.read_into(message):
                break
            del self._changed_runs[run]
        return message

    def _mark(self, run: _CarriedRun) -> None:
        self._changed_runs[run] = None
        self._changed.set()

    def _drop(self, run: _CarriedRun) -> None:
        self._runs.discard(run)
        self._changed_runs.pop(run, None)
        if not run.has_sent_end:
            self._left.append(run.log.claim.run_id)
        if self._left or not self.takes_runs:
            self._changed.set()


@dataclass(frozen=True, slots=True)
class Delivery[M: SharedMessage]:
    """How the events of a started run reach its follower."""

    stream: SharedStream[M] | None
    """The stream that carries them; if None, they come on the call that started the run."""
    follow_at: str | None
    """Where the follower can open a stream for the runs that it starts from now on."""


class SharedStreams[M: SharedMessage]:
    """The open streams of this replica, by follower."""

    def __init__(self, new_message: Callable[[], M], *, address: str | None, takes_runs_for_s: float) -> None:
        """`address`: where followers reach this replica; if None, it invites none. `takes_runs_for_s`: how long a
        stream accepts runs. It is shorter than the age at which the server closes the connection."""
        self._new_message = new_message
        self._address = address
        self._takes_runs_for_s = takes_runs_for_s
        self._is_stopping = False
        self._open: set[SharedStream[M]] = set()
        self._newest: dict[UUID, SharedStream[M]] = {}

    @contextmanager
    def open(self, follower_id: UUID, stream_id: UUID) -> Iterator[SharedStream[M]]:
        """Opens the stream that carries the follower's new runs from now on. Retires the previous one."""
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

    def delivery(self, follower_id: UUID | None, live: EventLog | None) -> Delivery[M]:
        """`live`: the events of a run that is new and executes here.

        Only those are carried. A stream carries a run once, so a repeated request for it gets the events on its own
        call.
        """
        stream = self.of(follower_id) if follower_id else None
        carrying = stream if live else None
        # Even if there is a stream: the follower may have closed it and know that before this replica does.
        is_invited = follower_id and (carrying or not stream)
        return Delivery(carrying, self._invitation if is_invited else None)

    def of(self, follower_id: UUID) -> SharedStream[M] | None:
        """The follower's stream that accepts new runs."""
        stream = self._newest.get(follower_id)
        return stream if stream and stream.takes_runs else None

    @property
    def _invitation(self) -> str | None:
        """The address at which to open a stream; None while this replica stops."""
        return None if self._is_stopping else self._address

    def stop(self) -> None:
        """Accepts no new runs. Every stream ends with its last run."""
        self._is_stopping = True
        for stream in self._open:
            stream.retire()
