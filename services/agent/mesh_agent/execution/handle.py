"""One run being executed here, and why it may be stopped from outside."""

import asyncio
from dataclasses import dataclass, field
from enum import StrEnum

from mesh_agent.domain import Claim
from mesh_agent.execution.recorder import Attempt
from mesh_agent.lease import HeldLease


class Stop(StrEnum):
    CANCELLED = "cancelled"
    """Its user wants no more of it; what there is of the answer is kept."""
    DISCARDED = "discarded"
    """Its thread is gone; nothing is kept."""
    LEASE_LOST = "lease_lost"
    RELEASED = "released"
    """This replica goes; another shall take the run over."""


@dataclass(slots=True)
class Handle:
    claim: Claim
    attempt: Attempt
    lease: HeldLease
    task: asyncio.Task[None] | None = None
    stop: Stop | None = None
    has_begun: bool = False
    is_ending: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def stop_by(self, reason: Stop) -> bool:
        """Stops the run unless it is stopped or ending already."""
        if self.is_ending or self.stop or self.task is None:
            return False
        self.stop = reason
        if self.has_begun:
            self.task.cancel()
        return True

    def begin(self) -> None:
        """The first thing its task does. asyncio would never enter a task that is cancelled before that, and then
        nobody would end the run or give it back: so one that was stopped already is cancelled here."""
        self.has_begun = True
        if self.stop and self.task:
            self.task.cancel()
