"""Follows one run across cuts: an agent that restarts, a connection that reaches its maximum age, a takeover."""

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
from mesh_gateway.runs.ports import Follower, OpenedRun
from mesh_gateway.runs.position import EventPosition

log = structlog.get_logger()

# A takeover takes at most 10 s, but longer if the remaining replicas are full or the only one restarts. A client that
# has to reconnect after half a minute loses nothing.
_GIVE_UP_AFTER_S: Final = 30.0
_FIRST_PAUSE_S: Final = 0.2
_MAX_PAUSE_S: Final = 2.0


async def follow_to_end(
    follower: Follower, subject: Subject, opened: OpenedRun, after: EventPosition | None
) -> AsyncGenerator[RunEvent]:
    """The events of an opened run, in order. If the stream is cut, follows the run again from the last event.

    Ends after the terminal event. Ends without one if the run can no longer be followed; the client then reconnects.
    Never raises a MeshError. `after` must not be the position of a terminal event: the caller answers that with 204
    itself, and here a cut before the next event does not mean that the run has ended.
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
            if not await outage.may_try_again(cut):
                return
            await stack.aclose()
            after = EventPosition.of(last) if last else after
            source = _refollowed(stack, follower.follow_run(subject, opened.run_id, after), outage)


async def _refollowed(
    stack: AsyncExitStack, opening: AbstractAsyncContextManager[OpenedRun], outage: "_Outage"
) -> AsyncIterator[RunEvent]:
    # A generator, so that an error from opening is raised where errors from reading are.
    again = await stack.enter_async_context(opening)
    REFOLLOWS.labels("opened").inc()
    outage.opened()
    async for event in again.events:
        yield event


class _Outage:
    """How long a run has not been followed since its last event, over all attempts.

    Time on an open stream does not count: a run may send no events for a long time.
    """

    def __init__(self) -> None:
        self._tries = 0
        self._lasted_s = 0.0
        self._began_s: float | None = None

    async def may_try_again(self, error: MeshError) -> bool:
        """True after a pause that grows with each attempt; False after too long or if a retry cannot help."""
        self._count()
        # If the connection of a stream breaks, gRPC reports UNAVAILABLE, or INTERNAL after a reset.
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
        """Stops the clock. It continues from there if the stream is cut before its first event."""
        self._count()

    def _count(self) -> None:
        if self._began_s is not None:
            self._lasted_s += asyncio.get_running_loop().time() - self._began_s
            self._began_s = None
