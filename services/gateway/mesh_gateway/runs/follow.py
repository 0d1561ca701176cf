"""The events of one run across cuts: an agent that restarts, a connection that is too old, a takeover."""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Final

import structlog
from mesh_common.errors import DeadlineExceeded, Internal, MeshError, Unavailable
from mesh_common.events.model import RunEvent
from mesh_common.subject import Subject

from mesh_gateway.metrics import REFOLLOWS
from mesh_gateway.runs.events import EventPosition
from mesh_gateway.runs.ports import Follower, OpenedRun

log = structlog.get_logger()

# A takeover takes 10 s at most, and longer where the replicas that are left are full, or the only one starts anew. A
# client that is told to come back after half a minute loses nothing by it.
_GIVE_UP_AFTER_S: Final = 30.0
_FIRST_PAUSE_S: Final = 0.2
_MAX_PAUSE_S: Final = 2.0


async def follow_to_end(
    follower: Follower, subject: Subject, opened: OpenedRun, after: EventPosition | None
) -> AsyncGenerator[RunEvent]:
    """The events of an opened run, in order, re-followed from the last one when the stream is cut.

    Ends after the terminal event; without one when the run can be followed no longer, which tells the client to
    come back. Never raises a MeshError. `after` is not the position of a terminal event: whoever has seen the end is
    told so before (204), and a run whose owner goes away before its next event is not over.
    """
    last: RunEvent | None = None
    outage: _Outage | None = None
    source: AsyncIterator[RunEvent] = opened.events
    async with AsyncExitStack() as stack:
        while True:
            try:
                async for event in source:
                    last, outage = event, None
                    yield event
                    if event.is_terminal:
                        return
            except MeshError as error:
                cut = error
            else:
                cut = Unavailable("The stream ended before the run.")
            outage = outage or _Outage()
            may_try_again = await outage.may_try_again(cut)
            del cut  # its traceback holds this frame: a cycle
            if not may_try_again:
                return
            await stack.aclose()
            after = EventPosition.of(last) if last else after
            source = _refollowed(stack, follower.follow_run(subject, opened.run_id, after), outage)


async def _refollowed(
    stack: AsyncExitStack, opening: AbstractAsyncContextManager[OpenedRun], outage: "_Outage"
) -> AsyncIterator[RunEvent]:
    # A generator, so that opening fails where reading fails.
    again = await stack.enter_async_context(opening)
    REFOLLOWS.labels("opened").inc()
    outage.opened()
    async for event in again.events:
        yield event


class _Outage:
    """How long a run has gone unfollowed since its last event, over all tries.

    The time in a stream that was opened is none of it: a run may be silent for long.
    """

    def __init__(self) -> None:
        self._tries = 0
        self._lasted_s = 0.0
        self._began_s: float | None = None

    async def may_try_again(self, error: MeshError) -> bool:
        """True after a pause, longer from try to try; False when it lasts too long, or trying again is of no use."""
        self._count()
        # A connection that dies under a stream comes out as UNAVAILABLE, or as INTERNAL when it was reset.
        if self._lasted_s >= _GIVE_UP_AFTER_S or not isinstance(error, Unavailable | Internal | DeadlineExceeded):
            REFOLLOWS.labels("given_up").inc()
            log.warning("stream.given_up", reason=error.reason, tries=self._tries, away_s=round(self._lasted_s, 1))
            return False
        self._began_s = asyncio.get_running_loop().time()
        pause_s = min(_MAX_PAUSE_S, _FIRST_PAUSE_S * 2**self._tries)
        self._tries += 1
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, no secret
        return True

    def opened(self) -> None:
        """Stops the time. Should the stream be cut before its first event, it goes on where it stopped."""
        self._count()

    def _count(self) -> None:
        if self._began_s is not None:
            self._lasted_s += asyncio.get_running_loop().time() - self._began_s
            self._began_s = None
