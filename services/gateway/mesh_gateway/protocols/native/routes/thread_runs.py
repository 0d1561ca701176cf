"""Runs on a thread: started in three ways, and listed."""

from http import HTTPStatus
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from mesh_common.ids import RunId, new_id

from mesh_gateway.domain import KnownRunStatus
from mesh_gateway.edge.costs import ReaderDep
from mesh_gateway.edge.deps import CallerDep, GatewayDep
from mesh_gateway.edge.event_stream import EventStreamResponse
from mesh_gateway.protocols.native import answers, turns
from mesh_gateway.protocols.native.params import IdempotencyKey, LastEventIdDep, Limit, PageCursor, ThreadId
from mesh_gateway.protocols.native.routes.docs import NO_MORE_EVENTS, problems, stream
from mesh_gateway.protocols.native.schemas.common import Page
from mesh_gateway.protocols.native.schemas.runs import BackgroundRunBody, ChatAnswer, Run, RunBody, StartedRun
from mesh_gateway.runs.order import RunOrder

router = APIRouter(prefix="/api/v1/threads/{thread_id}/runs", tags=["runs"])

_LOCATION: dict[int | str, dict[str, Any]] = {
    202: {"headers": {"Location": {"description": "The run.", "schema": {"type": "string"}}}}
}


@router.get("", summary="List runs, newest first", responses=problems(401, 404, 422, 429))
async def list_runs(
    thread_id: ThreadId,
    gateway: GatewayDep,
    caller: ReaderDep,
    status: Annotated[KnownRunStatus | None, Query(description="Only runs of this status.")] = None,
    limit: Limit = 20,
    cursor: PageCursor = None,
) -> Page[Run]:
    found = await gateway.agent.runs(caller.subject, thread_id, status=status, limit=limit, cursor=cursor)
    return answers.page(answers.run, found)


@router.post(
    "",
    status_code=HTTPStatus.ACCEPTED,
    summary="Start a run in the background",
    description="It runs without this request: follow it, wait for it, or get it later.",
    responses={**_LOCATION, **problems(401, 403, 404, 409, 413, 422, 429)},
)
async def start_run(
    thread_id: ThreadId,
    body: BackgroundRunBody,
    request: Request,
    response: Response,
    gateway: GatewayDep,
    caller: CallerDep,
    idempotency_key: IdempotencyKey = None,
) -> StartedRun:
    started = await turns.start_only(gateway, request, caller, _order(thread_id, body, idempotency_key))
    response.headers["Location"] = f"/api/v1/runs/{started.run_id}"
    return started


@router.post(
    "/stream",
    summary="Start a run and follow its events",
    status_code=HTTPStatus.OK,
    response_class=EventStreamResponse,
    response_model=None,
    responses={**NO_MORE_EVENTS, **stream(401, 403, 404, 409, 413, 422, 429)},
)
async def stream_run(
    thread_id: ThreadId,
    body: RunBody,
    request: Request,
    gateway: GatewayDep,
    caller: CallerDep,
    last_event_id: LastEventIdDep,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    if last_event_id:
        return await turns.stream_followed(gateway, request, caller, last_event_id.run_id, last_event_id)
    return await turns.stream_new(
        gateway, request, caller, _order(thread_id, body, idempotency_key, on_disconnect=body.on_disconnect)
    )


@router.post(
    "/wait",
    summary="Start a run and wait for its answer",
    response_model=ChatAnswer,
    responses=problems(401, 403, 404, 409, 413, 422, 429),
)
async def wait_run(
    thread_id: ThreadId,
    body: RunBody,
    request: Request,
    gateway: GatewayDep,
    caller: CallerDep,
    idempotency_key: IdempotencyKey = None,
) -> ChatAnswer | Response:
    return await turns.answer_new(
        gateway, request, caller, _order(thread_id, body, idempotency_key, on_disconnect=body.on_disconnect)
    )


def _order(
    thread_id: UUID,
    body: BackgroundRunBody,
    idempotency_key: str | None,
    *,
    on_disconnect: Literal["continue", "cancel"] = "continue",
) -> RunOrder:
    return RunOrder(
        run_id=RunId(new_id()),
        thread_id=str(thread_id),
        message=body.message,
        model=body.model,
        assistant=body.assistant,
        response_format_json=body.response_format.as_json() if body.response_format else None,
        metadata=body.metadata,
        multitask=body.multitask,
        cancels_on_disconnect=on_disconnect == "cancel",
        idempotency_key=idempotency_key,
    )
