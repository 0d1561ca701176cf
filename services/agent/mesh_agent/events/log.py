"""The events of one attempt while it runs. Only its owner writes them; any number of followers read them."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager

from mesh_common.events.model import EventBody, RunEvent

from mesh_agent.domain.attempts import Claim, LeaseLostError
from mesh_agent.lease import HeldLease


class EventLog:
    """Numbers events and keeps them for followers, who read by position and so cannot slow the run down.

    The limits of one attempt bound its size: the model's output limit and the number of tool rounds. `holds_lease` is
    called when an event is written and again when it is read. An owner without its lease must not send anything
    (fencing), and an owner that was paused may have written events that were not read in time.
    """

    def __init__(self, claim: Claim, lease: HeldLease) -> None:
        self.claim = claim
        self.lease = lease
        self.events: list[RunEvent] = []
        self.holds_lease = lease.holds
        self._changed: asyncio.Event | None = None  # created when a follower waits for it
        self._listeners: list[Callable[[], None]] = []
        self.is_closed = False

    def append(self, body: EventBody) -> RunEvent:
        """Raises LeaseLostError, and appends nothing, if the lease has expired."""
        if not self.holds_lease():
            raise LeaseLostError
        event = RunEvent(self.claim.run_id, self.claim.attempt, len(self.events) + 1, body)
        self.events.append(event)
        self._wake_followers()
        return event

    @property
    def has_ended(self) -> bool:
        return bool(self.events) and self.events[-1].is_terminal

    def finish(self, terminal: RunEvent) -> None:
        """Appends the terminal event, regardless of the lease: the end is already stored in the database."""
        self.events.append(terminal)
        self.close()

    def close(self) -> None:
        """Appends nothing more. Followers end, with or without a terminal event."""
        self.is_closed = True
        self._wake_followers()

    @property
    def may_be_told(self) -> bool:
        """Whether events may be sent: no other attempt can have replaced this one."""
        return self.has_ended or self.holds_lease()

    async def follow(self, after_seq: int) -> AsyncGenerator[RunEvent]:
        """Events after `after_seq`, in order, until the log is closed or the lease is lost."""
        seen = after_seq
        while True:
            changed = self._changed = self._changed or asyncio.Event()
            while seen < len(self.events):
                if not self.may_be_told:
                    return
                yield self.events[seen]
                seen += 1
            if self.is_closed:
                return
            await changed.wait()

    def after(self, seq: int) -> tuple[Sequence[RunEvent], bool]:
        """Events after `seq` that may be sent now, and whether there will be no more."""
        if not self.may_be_told:
            return (), True
        return self.events[seq:], self.is_closed

    @contextmanager
    def heard_by(self, listener: Callable[[], None]) -> Iterator[None]:
        """Calls `listener` at each change while open; for a stream that follows many runs."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    def _wake_followers(self) -> None:
        if self._changed:
            self._changed.set()
            self._changed = None
        for listener in self._listeners:
            listener()
