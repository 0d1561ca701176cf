"""Turns over HTTP: events as a stream, the whole answer, or the run's current state."""

from http import HTTPStatus

from mesh_common.ids import RunId
from starlette.requests import Request
from starlette.responses import Response

from mesh_gateway.edge.connections import CLIENT_GONE, until_left
from mesh_gateway.edge.deps import Gateway
from mesh_gateway.edge.event_stream import EventStreamResponse
from mesh_gateway.identity.access_tokens import Principal
from mesh_gateway.protocols.native import answers
from mesh_gateway.protocols.native.schemas.runs import ChatAnswer, Run, StartedRun
from mesh_gateway.protocols.native.sse import SSEEncoder
from mesh_gateway.request_record import record_of
from mesh_gateway.runs.order import RunOrder
from mesh_gateway.runs.position import EventPosition
from mesh_gateway.runs.turn import Turn


async def start_only(gateway: Gateway, request: Request, caller: Principal, order: RunOrder) -> StartedRun:
    opened = await gateway.turns.start_only(record_of(request.scope), caller, order)
    return StartedRun(run_id=str(opened.run_id), thread_id=opened.thread_id)


async def stream_new(gateway: Gateway, request: Request, caller: Principal, order: RunOrder) -> Response:
    return _streamed(gateway, await gateway.turns.start(record_of(request.scope), caller, order))


async def stream_followed(
    gateway: Gateway, request: Request, caller: Principal, run_id: RunId, after: EventPosition | None
) -> Response:
    """The events after a position; 204 if no more will come."""
    turn = await gateway.turns.follow(record_of(request.scope), caller, run_id, after)
    return _streamed(gateway, turn) if turn else Response(status_code=HTTPStatus.NO_CONTENT)


async def answer_new(gateway: Gateway, request: Request, caller: Principal, order: RunOrder) -> ChatAnswer | Response:
    """The whole answer. Raises the run's error."""
    left = until_left(request.receive)
    answer = await gateway.turns.answer(record_of(request.scope), caller, order, left)
    return answers.chat_answer(answer) if answer else Response(status_code=CLIENT_GONE)


async def run_within(
    gateway: Gateway, request: Request, caller: Principal, run_id: RunId, wait_s: float
) -> Run | Response:
    """The run once it has ended, or its state after `wait_s`."""
    left = until_left(request.receive)
    run = await gateway.turns.wait(record_of(request.scope), caller, run_id, wait_s, left)
    return answers.run(run) if run else Response(status_code=CLIENT_GONE)


def _streamed(gateway: Gateway, turn: Turn) -> Response:
    run_path = f"/api/v1/runs/{turn.run_id}"
    return EventStreamResponse(
        turn,
        SSEEncoder(),
        # Location is the run that was created; Content-Location the events that are sent.
        headers={"Location": run_path, "Content-Location": f"{run_path}/events"},
        ping_interval_s=gateway.settings.ping_interval_s,
    )
