"""One turn: start or follow a run, then give its events as they come, or its whole answer. Knows no protocol."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, suppress
from dataclasses import dataclass, replace
from typing import Final

import structlog
from mesh_common.errors import Conflict, DeadlineExceeded, MeshError, PreconditionFailed, Unavailable
from mesh_common.events.model import MessageDelta, RunEvent
from mesh_common.ids import RunId
from opentelemetry import trace

from mesh_gateway.domain import Run
from mesh_gateway.identity.access_tokens import Principal
from mesh_gateway.limits.rate_limit import Limit
from mesh_gateway.limits.stream_slots import OpenStreams, StreamSlot, UntilLeft, while_connected
from mesh_gateway.metrics import FIRST_TOKEN_SECONDS
from mesh_gateway.request_record import RequestRecord
from mesh_gateway.runs.answer import Answer, AnswerBuilder
from mesh_gateway.runs.events import EventPosition, RunOrder
from mesh_gateway.runs.follow import follow_to_end
from mesh_gateway.runs.ports import Agent, Limits, OpenedRun

log = structlog.get_logger()

_EVENTS_EXPIRED: Final = "EVENTS_EXPIRED"


class FirstToken:
    """Observes the time to the first piece of an answer, once."""

    def __init__(self, started_s: float | None) -> None:
        """None for a turn that is only followed: it observes nothing."""
        self._started_s = started_s

    def __call__(self, event: RunEvent) -> None:
        if self._started_s is not None and isinstance(event.body, MessageDelta):
            FIRST_TOKEN_SECONDS.observe(time.perf_counter() - self._started_s)
            self._started_s = None


@dataclass(frozen=True, slots=True)
class Turn:
    """An acknowledged run being followed. `resources` hold its stream and its slot: close them."""

    opened: OpenedRun
    events: AsyncGenerator[RunEvent]
    slot: StreamSlot
    resources: AsyncExitStack
    on_event: FirstToken
    """Called with each event before it is given to the client."""

    @property
    def run_id(self) -> RunId:
        return self.opened.run_id

    @property
    def thread_id(self) -> str:
        return self.opened.thread_id


@dataclass(frozen=True, slots=True)
class TurnBounds:
    chat_per_minute: int
    call_timeout_s: float
    answer_timeout_s: float
    """How long the whole answer of a run is waited for."""


@dataclass(frozen=True, slots=True)
class Turns:
    agent: Agent
    limits: Limits
    streams: OpenStreams
    bounds: TurnBounds

    async def start(self, record: RequestRecord, caller: Principal, order: RunOrder) -> Turn:
        """Raises the agent's refusal, RateLimited, Unavailable."""
        await self.limits.charge(Limit("chat", self.bounds.chat_per_minute), str(caller.user_id), record)
        source = self.agent.start_run(caller.subject, order)
        turn = await self._opened(record, caller, source, None, FirstToken(record.started_s))
        # A repeated request only follows the run of the first.
        if order.cancels_on_disconnect and turn.run_id == order.run_id:
            turn.resources.push_async_callback(self._cancel_when_left, caller, turn)
        return turn

    async def start_only(self, record: RequestRecord, caller: Principal, order: RunOrder) -> OpenedRun:
        """Leaves as soon as the run is acknowledged; its events are not to be read. Raises as `start`."""
        turn = await self.start(record, caller, replace(order, is_followed=False))
        await turn.resources.aclose()
        return turn.opened

    async def follow(
        self, record: RequestRecord, caller: Principal, run_id: RunId, after: EventPosition | None
    ) -> Turn | None:
        """A turn from a position on; None when no event will ever come. Raises Conflict for another run's position."""
        if after and after.run_id != run_id:
            raise Conflict("Last-Event-ID is of another run.", reason="EVENT_OF_OTHER_RUN")
        try:
            turn = await self._followed(record, caller, run_id, after)
        except PreconditionFailed as error:
            if error.reason == _EVENTS_EXPIRED:
                return None
            raise
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(turn.resources)
            if after and await self._is_over(caller, turn.opened):
                # Who comes back by itself would come back to an empty stream for ever.
                return None
            stack.pop_all()
            return turn

    async def answer(
        self, record: RequestRecord, caller: Principal, order: RunOrder, until_left: UntilLeft
    ) -> Answer | None:
        """The whole answer of a new run; None when the client left before. Raises the run's error."""
        turn = await self.start(record, caller, order)
        async with turn.resources:
            work = _gathered(turn, record, self.bounds.answer_timeout_s)
            return await while_connected(until_left, turn.slot, work)

    async def wait(
        self, record: RequestRecord, caller: Principal, run_id: RunId, wait_s: float, until_left: UntilLeft
    ) -> Run | None:
        """The run when it has ended, or as it is after `wait_s`; None when the client left before.

        Waits by following the run, so that its end is known at once and nobody polls. A replica that stops answers
        earlier, with the run as it is: the client asks the next replica. Raises as following a run does.
        """
        run = await self.agent.run(caller.subject, run_id)
        if run.has_ended or not wait_s:
            return run
        try:
            turn = await self._followed(record, caller, run_id, None)
        except PreconditionFailed as error:
            if error.reason != _EVENTS_EXPIRED:
                raise
            return await self.agent.run(caller.subject, run_id)
        async with turn.resources:
            is_there = True
            # Following raises no error of its own: this is the replica that stops.
            with suppress(Unavailable):
                is_there = bool(await while_connected(until_left, turn.slot, _ended(turn, wait_s)))
        return await self.agent.run(caller.subject, run_id) if is_there else None

    async def _followed(
        self, record: RequestRecord, caller: Principal, run_id: RunId, after: EventPosition | None
    ) -> Turn:
        source = self.agent.follow_run(caller.subject, run_id, after)
        return await self._opened(record, caller, source, after, FirstToken(None))

    async def _opened(
        self,
        record: RequestRecord,
        caller: Principal,
        source: AbstractAsyncContextManager[OpenedRun],
        after: EventPosition | None,
        on_event: FirstToken,
    ) -> Turn:
        """Waits for the acknowledgement, in a slot among the open streams."""
        span = trace.get_current_span()
        async with AsyncExitStack() as stack:
            slot = stack.enter_context(self.streams.slot(caller.user_id))
            opened = await stack.enter_async_context(source)
            span.set_attribute("mesh.run_id", str(opened.run_id))
            record.members["run_id"] = str(opened.run_id)
            if opened.thread_id:
                record.members["thread_id"] = opened.thread_id
            events = follow_to_end(self.agent, caller.subject, opened, after)
            return Turn(opened, events, slot, stack.pop_all(), on_event)

    async def _is_over(self, caller: Principal, opened: OpenedRun) -> bool:
        """Whether the client has seen all of an ended run. A live one may be silent for long, and is not waited for."""
        has_ended = opened.has_ended
        if has_ended is None:
            # An agent of the release before.
            has_ended = (await self.agent.run(caller.subject, opened.run_id)).has_ended
        if not has_ended:
            return False
        try:
            async with asyncio.timeout(self.bounds.call_timeout_s):
                return await opened.events.peek() is None
        except TimeoutError:
            raise DeadlineExceeded("The events of the run did not arrive in time.") from None

    async def _cancel_when_left(self, caller: Principal, turn: Turn) -> None:
        """At the end of following: nobody is there any more whom an error could be told."""
        if not turn.slot.has_client_left:
            return
        try:
            await self.agent.cancel_run(caller.subject, turn.run_id)
        except MeshError as error:
            log.warning("run.not_cancelled", reason=error.reason)


async def _gathered(turn: Turn, record: RequestRecord, limit_s: float) -> Answer:
    builder = AnswerBuilder(str(turn.run_id), turn.thread_id)
    try:
        async with asyncio.timeout(limit_s), aclosing(turn.events) as events:
            async for event in events:
                turn.on_event(event)
                builder.add(event)
    except TimeoutError:
        raise DeadlineExceeded("The run takes longer than an answer may; it goes on.") from None
    if builder.run_status:
        # Should it be an error: the client shall know that the same request gives the same end.
        record.members["run_status"] = builder.run_status
    return builder.answer()


async def _ended(turn: Turn, limit_s: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(limit_s), aclosing(turn.events) as events:
            async for _ in events:
                pass
    return True
