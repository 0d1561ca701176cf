"""One turn: starts or follows a run, then returns its events as they come or its whole answer. In no protocol."""

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
from mesh_gateway.runs.follow import follow_to_end
from mesh_gateway.runs.order import RunOrder
from mesh_gateway.runs.ports import Agent, Limits, OpenedRun
from mesh_gateway.runs.position import EventPosition

log = structlog.get_logger()

_EVENTS_EXPIRED: Final = "EVENTS_EXPIRED"


class FirstToken:
    """Records the time to the first piece of an answer, once."""

    def __init__(self, started_s: float | None) -> None:
        """None for a turn that only follows a run: then nothing is recorded."""
        self._started_s = started_s

    def __call__(self, event: RunEvent) -> None:
        if self._started_s is not None and isinstance(event.body, MessageDelta):
            FIRST_TOKEN_SECONDS.observe(time.perf_counter() - self._started_s)
            self._started_s = None


@dataclass(frozen=True, slots=True)
class Turn:
    """An acknowledged run being followed. `resources` hold its stream and its slot; the caller closes them."""

    opened: OpenedRun
    events: AsyncGenerator[RunEvent]
    slot: StreamSlot
    resources: AsyncExitStack
    on_event: FirstToken
    """Called with each event before it is sent to the client."""

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
    """How long to wait for the whole answer of a run."""


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
        # A repeated request only follows the run that the first one started.
        if order.cancels_on_disconnect and turn.run_id == order.run_id:
            turn.resources.push_async_callback(self._cancel_when_left, caller, turn)
        return turn

    async def start_only(self, record: RequestRecord, caller: Principal, order: RunOrder) -> OpenedRun:
        """Returns once the run is acknowledged; do not read its events. Raises as `start`."""
        turn = await self.start(record, caller, replace(order, is_followed=False))
        await turn.resources.aclose()
        return turn.opened

    async def follow(
        self, record: RequestRecord, caller: Principal, run_id: RunId, after: EventPosition | None
    ) -> Turn | None:
        """A turn after a position; None if no more events will come. Raises Conflict for another run's position."""
        if after and after.run_id != run_id:
            raise Conflict("Last-Event-ID belongs to another run.", reason="EVENT_OF_OTHER_RUN")
        try:
            turn = await self._followed(record, caller, run_id, after)
        except PreconditionFailed as error:
            if error.reason == _EVENTS_EXPIRED:
                return None
            raise
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(turn.resources)
            if after and await self._is_over(caller, turn.opened):
                # A client that reconnects automatically would get an empty stream again and again.
                return None
            stack.pop_all()
            return turn

    async def answer(
        self, record: RequestRecord, caller: Principal, order: RunOrder, until_left: UntilLeft
    ) -> Answer | None:
        """The whole answer of a new run; None if the client disconnects first. Raises the run's error."""
        turn = await self.start(record, caller, order)
        async with turn.resources:
            work = _gathered(turn, record, self.bounds.answer_timeout_s)
            answer = await while_connected(until_left, turn.slot, work)
        turn.slot.require_session()
        return answer

    async def wait(
        self, record: RequestRecord, caller: Principal, run_id: RunId, wait_s: float, until_left: UntilLeft
    ) -> Run | None:
        """The run once it has ended, or its state after `wait_s`; None if the client disconnects first.

        Waits by following the run, so that its end is known at once and without polling. A replica that stops answers
        earlier, with the run's current state: the client then asks another replica. Raises as following a run does.
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
            # Following never raises a MeshError, so Unavailable means that this replica stops.
            with suppress(Unavailable):
                is_there = bool(await while_connected(until_left, turn.slot, _ended(turn, wait_s)))
        turn.slot.require_session()
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
        """Waits for the acknowledgement while holding a stream slot."""
        span = trace.get_current_span()
        async with AsyncExitStack() as stack:
            slot = stack.enter_context(self.streams.slot(caller.user_id, caller.session_id))
            opened = await stack.enter_async_context(source)
            span.set_attribute("mesh.run_id", str(opened.run_id))
            record.members["run_id"] = str(opened.run_id)
            if opened.thread_id:
                record.members["thread_id"] = opened.thread_id
            events = follow_to_end(self.agent, caller.subject, opened, after)
            return Turn(opened, events, slot, stack.pop_all(), on_event)

    async def _is_over(self, caller: Principal, opened: OpenedRun) -> bool:
        """Whether the run has ended and the client has seen all of it. Does not wait for events of an unended run."""
        has_ended = opened.has_ended
        if has_ended is None:
            # The agent is of the previous release.
            has_ended = (await self.agent.run(caller.subject, opened.run_id)).has_ended
        if not has_ended:
            return False
        try:
            async with asyncio.timeout(self.bounds.call_timeout_s):
                return await opened.events.peek() is None
        except TimeoutError:
            raise DeadlineExceeded("The events of the run did not arrive in time.") from None

    async def _cancel_when_left(self, caller: Principal, turn: Turn) -> None:
        """Runs after the stream has ended, so an error is logged: no client is left to receive it."""
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
        raise DeadlineExceeded("The run takes longer than one request may; it continues.") from None
    if builder.run_status:
        # If this becomes an error, the client learns from it that the same request gives the same end.
        record.members["run_status"] = builder.run_status
    return builder.answer()


async def _ended(turn: Turn, limit_s: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(limit_s), aclosing(turn.events) as events:
            async for _ in events:
                pass
    return True
