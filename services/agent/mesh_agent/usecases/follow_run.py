"""Follows a run: live if this replica owns it, relayed if another one does, from the database after its end."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from mesh_common.errors import NotFound, PreconditionFailed
from mesh_common.events.model import Position, RunEvent
from mesh_common.ids import RunId, ThreadId
from mesh_common.subject import Subject

from mesh_agent.domain.runs import FollowedRun
from mesh_agent.events.log import EventLog
from mesh_agent.events.storage import decode_frames
from mesh_agent.execution.executor import Executor
from mesh_agent.metrics import FOLLOWERS
from mesh_agent.ports import PeerAgents
from mesh_agent.store import Database, runs

_NO_RUN: Final = "There is no such run."


@dataclass(frozen=True, slots=True)
class FoundRun:
    """A run that can be followed. `stored` is None if it executes here."""

    thread_id: ThreadId
    has_ended: bool
    stored: FollowedRun | None = None


@dataclass(frozen=True, slots=True)
class FollowRun:
    database: Database
    executor: Executor
    peers: PeerAgents

    def live(self, subject: Subject, run_id: RunId) -> EventLog | None:
        """The events of the user's run if it executes here."""
        live = self.executor.log_of(run_id)
        return live if live is not None and live.claim.is_of(subject) else None

    async def find(self, subject: Subject, run_id: RunId) -> FoundRun:
        """Finds the run before its first event. Raises the errors that following it would raise at once."""
        live = self.live(subject, run_id)
        if live is not None:
            # Between its terminal event and its removal here, a run is both live and ended.
            return FoundRun(live.claim.thread_id, has_ended=live.has_ended)
        run = await self._stored(subject, run_id)
        if run.is_ended:
            _kept_frames(run)
        return FoundRun(run.thread_id, run.is_ended, run)

    async def __call__(
        self, subject: Subject, run_id: RunId, after: Position, found: FoundRun | None = None
    ) -> AsyncGenerator[RunEvent]:
        """Events after `after`, in order, until the terminal one. A `found` of a moment ago saves a transaction.

        Raises NotFound, and PreconditionFailed (EVENTS_EXPIRED) if the run ended too long ago. Ends without a terminal
        event if the owner is lost or this replica shuts down; then follow again.
        """
        with FOLLOWERS.track_inprogress():
            while not self.executor.is_drained:
                source = await self._source(subject, run_id, after, found)
                found = None
                if source is not None:
                    async with aclosing(source) as events:
                        async for event in events:
                            yield event
                    return
                if self.executor.log_of(run_id) is None and not self.executor.is_drained:
                    await self.executor.waiting.until_found(run_id)

    async def _source(
        self, subject: Subject, run_id: RunId, after: Position, found: FoundRun | None
    ) -> AsyncGenerator[RunEvent] | None:
        """The current source of the events; None while the run has no owner."""
        live = self.executor.log_of(run_id)
        if live is not None:
            if not live.claim.is_of(subject):
                raise NotFound(_NO_RUN)
            return live.follow(after.seq_within(live.claim.attempt))
        run = (found and found.stored) or await self._stored(subject, run_id)
        if run.is_ended:
            return _replay(run_id, _kept_frames(run), after)
        if run.owner_address is None or self.executor.is_mine(run):
            return None
        return self.peers.follow(run.owner_address, run_id, after)

    async def _stored(self, subject: Subject, run_id: RunId) -> FollowedRun:
        async with self.database.as_subject(subject) as connection:
            run = await runs.followed_run(connection, subject.user_id, run_id)
        if run is None:
            raise NotFound(_NO_RUN)
        return run


def _kept_frames(run: FollowedRun) -> bytes:
    if run.frames is None:
        raise PreconditionFailed(
            "The events of this run are no longer kept; GET the run for its final message.", reason="EVENTS_EXPIRED"
        )
    return run.frames


async def _replay(run_id: RunId, frames: bytes, after: Position) -> AsyncGenerator[RunEvent]:
    for event in decode_frames(run_id, frames):
        if event.seq > after.seq_within(event.attempt):
            yield event
