"""The events of one run across cuts: an agent that restarts, a connection that is too old, a takeover."""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Final, Protocol

import structlog
from mesh_common.errors import DeadlineExceeded, Internal, MeshError, Unavailable
from mesh_common.ids import RunId, UserId

from mesh_gateway.clients.agent import OpenedRun
from mesh_gateway.events import EventPosition, StreamEvent
from mesh_gateway.metrics import REFOLLOWS

log = structlog.get_logger()

# 0.2 + 0.4 + 0.8 + 1.6 + 2 + 2 + 2 + 2 s: a takeover takes 10 s at most.
_MAX_TRIES: Final = 8
_FIRST_PAUSE_S: Final = 0.2
_MAX_PAUSE_S: Final = 2.0


class Follower(Protocol):
    def follow_run(
        self, user_id: UserId, run_id: RunId, after: EventPosition | None
    ) -> AbstractAsyncContextManager[OpenedRun]:
        """The events of a run after a position. Raises MeshError, also from reading."""
        ...


async def follow_to_end(
    agent: Follower, user_id: UserId, opened: OpenedRun, after: EventPosition | None
) -> AsyncGenerator[StreamEvent]:
    """The events of an opened run, in order, re-followed from the last one when the stream is cut.

    Ends after the terminal event; without one when the run can be followed no longer, which tells the client to
    come back. Never raises a MeshError. `after` is not the position of a terminal event: whoever has seen the end is
    told so before (204), and a run whose owner goes away before its next event is not over.
    """
    failures = 0
    source: AsyncIterator[StreamEvent] = opened.events
    async with AsyncExitStack() as stack:
        while True:
            try:
                async for event in source:
                    after, failures = event.position, 0
                    yield event
                    if event.is_terminal:
                        return
            except MeshError as error:
                cut = error
            else:
                cut = Unavailable("The stream ended before the run.")
            failures += 1
            if not await _may_try_again(cut, failures):
                return
            await stack.aclose()
            source = _refollowed(stack, agent, user_id, opened.run_id, after)


async def _refollowed(
    stack: AsyncExitStack, agent: Follower, user_id: UserId, run_id: RunId, after: EventPosition | None
) -> AsyncIterator[StreamEvent]:
    # A generator, so that opening fails where reading fails.
    again = await stack.enter_async_context(agent.follow_run(user_id, run_id, after))
    REFOLLOWS.labels("opened").inc()
    async for event in again.events:
        yield event


async def _may_try_again(error: MeshError, failures: int) -> bool:
    # A connection that dies under a stream comes out as UNAVAILABLE, or as INTERNAL when it was reset.
    if failures > _MAX_TRIES or not isinstance(error, Unavailable | Internal | DeadlineExceeded):
        REFOLLOWS.labels("given_up").inc()
        log.warning("stream.given_up", reason=error.reason, failures=failures)
        return False
    pause_s = min(_MAX_PAUSE_S, _FIRST_PAUSE_S * 2 ** (failures - 1))
    await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, no secret
    return True
