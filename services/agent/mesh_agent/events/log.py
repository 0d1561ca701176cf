"""The events of one attempt while it runs: written by its owner alone, read by any number of followers."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager

from mesh_common.events.model import EventBody, RunEvent

from mesh_agent.domain import Claim


class LeaseLostError(Exception):
    """Another replica may own the run by now: nothing more may be sent or stored."""


class EventLog:
    """Numbers events and keeps them for followers, who read by position and so cannot slow the run down.

    Bounded by what one attempt may produce: its text is, by the model's output limit, and tool rounds are.
    `holds_lease` is asked before every event, when it is written and when it is read: an owner that lost its lease must
    not speak (fencing), and one that was paused may have written what nobody has read yet.
    """

    def __init__(self, claim: Claim, holds_lease: Callable[[], bool]) -> None:
        self.claim = claim
        self.events: list[RunEvent] = []
        self.holds_lease = holds_lease
        self._changed: asyncio.Event | None = None  # made when somebody waits for it
        self._listeners: list[Callable[[], None]] = []
        self.is_closed = False

    def append(self, body: EventBody) -> RunEvent:
        """Raises LeaseLostError instead of sending when the lease ran out."""
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
        """Tells the end, which the database knows already: so it is sent whatever became of the lease."""
        self.events.append(terminal)
        self.close()

    def close(self) -> None:
        """No more events come: followers end, with or without a terminal event."""
        self.is_closed = True
        self._wake_followers()

    @property
    def may_be_told(self) -> bool:
        """Whether no other attempt can have taken this one's place."""
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
        """Events after `seq` that may be told now, and whether no more will come."""
        if not self.may_be_told:
            return (), True
        return self.events[seq:], self.is_closed

    @contextmanager
    def heard_by(self, listener: Callable[[], None]) -> Iterator[None]:
        """Calls `listener` at each change, while open: for one who follows many runs at once."""
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
