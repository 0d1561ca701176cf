"""One turn at the edge: start or follow a run, then give its events as a stream or as one answer."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from dataclasses import dataclass, replace

import structlog
from mesh_common.errors import Conflict, DeadlineExceeded, MeshError, PreconditionFailed
from mesh_common.events.model import MessageDelta, RunEvent
from mesh_common.ids import RunId
from opentelemetry import trace
from starlette.requests import Request
from starlette.responses import Response

from mesh_gateway.clients.agent import OpenedRun
from mesh_gateway.edge.deps import Gateway
from mesh_gateway.edge.request_record import CLIENT_GONE, RequestRecord, record_of
from mesh_gateway.identity.access_tokens import Principal
from mesh_gateway.limits.rate_limit import Limit
from mesh_gateway.limits.stream_slots import StreamSlot, while_connected
from mesh_gateway.metrics import FIRST_TOKEN_SECONDS
from mesh_gateway.protocols.native.schemas.runs import ChatAnswer, StartedRun
from mesh_gateway.protocols.native.sse import EventStreamResponse
from mesh_gateway.runs.answer import AnswerBuilder
from mesh_gateway.runs.events import EventPosition, RunOrder
from mesh_gateway.runs.follow import follow_to_end

log = structlog.get_logger()

EVENTS_EXPIRED = "EVENTS_EXPIRED"
_NO_CONTENT = 204


@dataclass(frozen=True, slots=True)
class Turn:
    """An acknowledged run being followed. `resources` hold its stream and its slot: close them."""

    opened: OpenedRun
    events: AsyncGenerator[RunEvent]
    slot: StreamSlot
    resources: AsyncExitStack


class FirstToken:
    """Observes the time to the first piece of an answer, once."""

    def __init__(self, started_s: float) -> None:
        self._started_s: float | None = started_s

    def __call__(self, event: RunEvent) -> None:
        if self._started_s is not None and isinstance(event.body, MessageDelta):
            FIRST_TOKEN_SECONDS.observe(time.perf_counter() - self._started_s)
            self._started_s = None


async def start(gateway: Gateway, request: Request, caller: Principal, order: RunOrder) -> Turn:
    """Raises the agent's refusal, RateLimited, Unavailable."""
    record = record_of(request.scope)
    limit = Limit("chat", gateway.settings.chat_limit_per_minute)
    await gateway.limits.charge(limit, str(caller.user_id), record)
    turn = await open_turn(gateway, record, caller, gateway.agent.start_run(caller.user_id, order), None)
    # A repeated request only follows the run of the first.
    if order.cancels_on_disconnect and turn.opened.run_id == order.run_id:
        turn.resources.push_async_callback(_cancel_when_left, gateway, caller, turn)
    return turn


async def _cancel_when_left(gateway: Gateway, caller: Principal, turn: Turn) -> None:
    """At the end of following: nobody is there any more whom an error could be told."""
    if not turn.slot.has_client_left:
        return
    try:
        await gateway.agent.cancel_run(caller.user_id, turn.opened.run_id)
    except MeshError as error:
        log.warning("run.not_cancelled", reason=error.reason)


async def start_only(gateway: Gateway, request: Request, caller: Principal, order: RunOrder) -> StartedRun:
    """Leaves as soon as the run is acknowledged. Raises as `start`."""
    turn = await start(gateway, request, caller, replace(order, is_followed=False))
    await turn.resources.aclose()
    return StartedRun(run_id=str(turn.opened.run_id), thread_id=turn.opened.thread_id)


async def stream_new(gateway: Gateway, request: Request, caller: Principal, order: RunOrder) -> Response:
    turn = await start(gateway, request, caller, order)
    return _streamed(gateway, turn, FirstToken(record_of(request.scope).started_s))


async def stream_followed(
    gateway: Gateway, request: Request, caller: Principal, run_id: RunId, after: EventPosition | None
) -> Response:
    """The events after a position; 204 when none will ever come. Raises Conflict for another run's position."""
    if after and after.run_id != run_id:
        raise Conflict("Last-Event-ID is of another run.", reason="EVENT_OF_OTHER_RUN")
    source = gateway.agent.follow_run(caller.user_id, run_id, after)
    try:
        turn = await open_turn(gateway, record_of(request.scope), caller, source, after)
    except PreconditionFailed as error:
        if error.reason == EVENTS_EXPIRED:
            return Response(status_code=_NO_CONTENT)
        raise
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(turn.resources)
        if after and await _is_over(gateway, caller, turn.opened):
            # An EventSource would come back to an empty 200 for ever.
            return Response(status_code=_NO_CONTENT)
        stack.pop_all()
        return _streamed(gateway, turn, lambda _: None)


async def answer_new(gateway: Gateway, request: Request, caller: Principal, order: RunOrder) -> ChatAnswer | Response:
    """The whole answer. Raises the run's error."""
    turn = await start(gateway, request, caller, order)
    async with turn.resources:
        work = _gathered(turn, record_of(request.scope), gateway.settings.wait_timeout_s)
        answer = await while_connected(request.receive, turn.slot, work)
    return answer or Response(status_code=CLIENT_GONE)


async def open_turn(
    gateway: Gateway,
    record: RequestRecord,
    caller: Principal,
    source: AbstractAsyncContextManager[OpenedRun],
    after: EventPosition | None,
) -> Turn:
    """Waits for the acknowledgement, in a place among the open streams. Raises the agent's refusal, RateLimited,
    Unavailable."""
    span = trace.get_current_span()
    async with AsyncExitStack() as stack:
        slot = stack.enter_context(gateway.streams.slot(caller.user_id))
        opened = await stack.enter_async_context(source)
        span.set_attribute("mesh.run_id", str(opened.run_id))
        record.members["run_id"] = str(opened.run_id)
        if opened.thread_id:
            record.members["thread_id"] = opened.thread_id
        events = follow_to_end(gateway.agent, caller.user_id, opened, after)
        return Turn(opened, events, slot, stack.pop_all())


async def _is_over(gateway: Gateway, caller: Principal, opened: OpenedRun) -> bool:
    """Whether the client has seen all of an ended run. A live one may be silent for long, and is not waited for."""
    has_ended = opened.has_ended
    if has_ended is None:
        # An agent of the release before.
        has_ended = (await gateway.agent.run(caller.user_id, opened.run_id)).has_ended
    if not has_ended:
        return False
    try:
        async with asyncio.timeout(gateway.settings.call_timeout_s):
            return await opened.events.peek() is None
    except TimeoutError:
        raise DeadlineExceeded("The events of the run did not arrive in time.") from None


def _streamed(gateway: Gateway, turn: Turn, on_event: Callable[[RunEvent], None]) -> Response:
    run_path = f"/api/v1/runs/{turn.opened.run_id}"
    return EventStreamResponse(
        turn.events,
        resources=turn.resources,
        slot=turn.slot,
        # The run is what was made; what is sent are its events.
        headers={"Location": run_path, "Content-Location": f"{run_path}/events"},
        ping_interval_s=gateway.settings.ping_interval_s,
        on_event=on_event,
    )


async def _gathered(turn: Turn, record: RequestRecord, limit_s: float) -> ChatAnswer:
    first_token = FirstToken(record.started_s)
    builder = AnswerBuilder(str(turn.opened.run_id), turn.opened.thread_id)
    try:
        async with asyncio.timeout(limit_s), aclosing(turn.events) as events:
            async for event in events:
                first_token(event)
                builder.add(event)
    except TimeoutError:
        raise DeadlineExceeded("The run takes longer than an answer may; it goes on.") from None
    if builder.run_status:
        # Should it be a problem: the client shall know that the same request gives the same end.
        record.members["run_status"] = builder.run_status
    return builder.answer()
