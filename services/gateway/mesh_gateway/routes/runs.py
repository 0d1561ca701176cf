"""Runs of the agent on threads, and their events."""

from http import HTTPStatus
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from mesh_common.ids import RunId, new_id

from mesh_gateway import turns
from mesh_gateway.deps import (
    CallerDep,
    GatewayDep,
    IdempotencyKey,
    LastEventIdDep,
    Limit,
    PageCursor,
    ThreadId,
)
from mesh_gateway.events import RunOrder
from mesh_gateway.routes.docs import problems, stream
from mesh_gateway.schemas.catalogue import Scores
from mesh_gateway.schemas.common import Page
from mesh_gateway.schemas.runs import ChatAnswer, Run, RunBody
from mesh_gateway.sse import EventStreamResponse

router = APIRouter(prefix="/api/v1", tags=["runs"])

_GONE: dict[int | str, dict[str, Any]] = {204: {"description": "No more events will come; GET the run."}}


@router.get("/threads/{thread_id}/runs", summary="List runs, newest first", responses=problems(401, 404, 422))
async def list_runs(
    thread_id: ThreadId, gateway: GatewayDep, caller: CallerDep, limit: Limit = 20, cursor: PageCursor = None
) -> Page[Run]:
    return await gateway.agent.runs(caller.user_id, thread_id, limit, cursor)


@router.post(
    "/threads/{thread_id}/runs/stream",
    summary="Start a run and follow its events",
    status_code=HTTPStatus.OK,
    response_class=EventStreamResponse,
    response_model=None,
    responses={**_GONE, **stream(401, 403, 404, 409, 413, 422, 429)},
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
    return await turns.stream_new(gateway, request, caller, _order(thread_id, body, idempotency_key))


@router.post(
    "/threads/{thread_id}/runs/wait",
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
    return await turns.answer_new(gateway, request, caller, _order(thread_id, body, idempotency_key))


@router.get("/runs/{run_id}", summary="Get a run", responses=problems(401, 404, 422))
async def get_run(run_id: UUID, gateway: GatewayDep, caller: CallerDep) -> Run:
    return await gateway.agent.run(caller.user_id, RunId(run_id))


@router.get(
    "/runs/{run_id}/events",
    summary="Follow a run's events",
    status_code=HTTPStatus.OK,
    response_class=EventStreamResponse,
    response_model=None,
    responses={**_GONE, **stream(401, 404, 409, 422, 429)},
)
async def follow_run(
    run_id: UUID, request: Request, gateway: GatewayDep, caller: CallerDep, last_event_id: LastEventIdDep
) -> Response:
    return await turns.stream_followed(gateway, request, caller, RunId(run_id), last_event_id)


@router.post(
    "/runs/{run_id}/cancel",
    status_code=HTTPStatus.OK,
    summary="Cancel a run",
    description="A run that has ended stays as it is.",
    responses=problems(401, 404, 422),
)
async def cancel_run(run_id: UUID, gateway: GatewayDep, caller: CallerDep) -> Run:
    return await gateway.agent.cancel_run(caller.user_id, RunId(run_id))


@router.get(
    "/runs/{run_id}/scores",
    summary="The scores that a judge gave a run",
    description="Empty for a run that is not judged (yet).",
    responses=problems(401, 404, 422),
)
async def list_scores(run_id: UUID, gateway: GatewayDep, caller: CallerDep) -> Scores:
    # Whose run it is, the agent knows; eval has no rows for runs that were not sampled.
    await gateway.agent.run(caller.user_id, RunId(run_id))
    return await gateway.evals.scores(caller.user_id, RunId(run_id))


def _order(thread_id: UUID, body: RunBody, idempotency_key: str | None) -> RunOrder:
    return RunOrder(
        run_id=RunId(new_id()),
        thread_id=str(thread_id),
        message=body.message,
        model=body.model,
        metadata=body.metadata,
        is_reject=body.multitask == "reject",
        cancels_on_disconnect=body.on_disconnect == "cancel",
        idempotency_key=idempotency_key,
    )
