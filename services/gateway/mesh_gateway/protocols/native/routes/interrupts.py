"""What waits for a decision of a person, and the resumes of interrupted runs."""

from http import HTTPStatus
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from mesh_common.ids import RunId, new_id

from mesh_gateway.edge.costs import ReaderDep
from mesh_gateway.edge.deps import CallerDep, GatewayDep
from mesh_gateway.edge.event_stream import EventStreamResponse
from mesh_gateway.protocols.native import answers, turns
from mesh_gateway.protocols.native.interrupts import decision_of, shown
from mesh_gateway.protocols.native.params import IdempotencyKey, LastEventIdDep, Limit, PageCursor
from mesh_gateway.protocols.native.routes.docs import NO_MORE_EVENTS, problems, stream
from mesh_gateway.protocols.native.schemas.common import Page
from mesh_gateway.protocols.native.schemas.interrupts import Interrupt, ResumeAndFollowBody, ResumeBody
from mesh_gateway.protocols.native.schemas.runs import ChatAnswer, StartedRun
from mesh_gateway.runs.order import ResumeOrder, RunOrder

router = APIRouter(prefix="/api/v1", tags=["interrupts"])

_LOCATION: dict[int | str, dict[str, Any]] = {
    202: {"headers": {"Location": {"description": "The new run.", "schema": {"type": "string"}}}}
}
_STATUSES = (401, 403, 404, 409, 413, 422, 429)
WhoseInterrupts = Annotated[
    Literal["mine", "organisation"],
    Query(description="Of your own runs, or of all in your organisation. The latter needs `runs:approve` or `admin`."),
]


@router.get(
    "/interrupts",
    summary="List what waits for a decision, oldest first",
    responses=problems(401, 403, 422, 429),
)
async def list_interrupts(
    gateway: GatewayDep,
    caller: ReaderDep,
    scope: WhoseInterrupts = "mine",
    limit: Limit = 20,
    cursor: PageCursor = None,
) -> Page[Interrupt]:
    found = await gateway.agent.interrupts(
        caller.subject, is_of_organisation=scope == "organisation", limit=limit, cursor=cursor
    )
    return answers.page(shown, found)


@router.post(
    "/runs/{run_id}/resume",
    status_code=HTTPStatus.ACCEPTED,
    summary="Decide what an interrupted run asks, and let it continue in the background",
    description=(
        "A new run continues where the interrupted one ended. With `runs:approve` or `admin`, also for a run of "
        "another user in your organisation: that user alone can follow the new run."
    ),
    responses={**_LOCATION, **problems(*_STATUSES)},
)
async def resume_run(
    run_id: UUID,
    body: ResumeBody,
    request: Request,
    response: Response,
    gateway: GatewayDep,
    caller: CallerDep,
    idempotency_key: IdempotencyKey = None,
) -> StartedRun:
    started = await turns.start_only(gateway, request, caller, _order(run_id, body, idempotency_key))
    response.headers["Location"] = f"/api/v1/runs/{started.run_id}"
    return started


@router.post(
    "/runs/{run_id}/resume/stream",
    summary="Decide what an interrupted run asks, and follow the run that continues",
    status_code=HTTPStatus.OK,
    response_class=EventStreamResponse,
    response_model=None,
    responses={**NO_MORE_EVENTS, **stream(*_STATUSES)},
)
async def stream_resumed_run(
    run_id: UUID,
    body: ResumeAndFollowBody,
    request: Request,
    gateway: GatewayDep,
    caller: CallerDep,
    last_event_id: LastEventIdDep,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    if last_event_id:
        return await turns.stream_followed(gateway, request, caller, last_event_id.run_id, last_event_id)
    order = _order(run_id, body, idempotency_key, cancels=body.on_disconnect == "cancel")
    return await turns.stream_new(gateway, request, caller, order)


@router.post(
    "/runs/{run_id}/resume/wait",
    summary="Decide what an interrupted run asks, and wait for the answer",
    response_model=ChatAnswer,
    responses=problems(*_STATUSES),
)
async def wait_resumed_run(
    run_id: UUID,
    body: ResumeAndFollowBody,
    request: Request,
    gateway: GatewayDep,
    caller: CallerDep,
    idempotency_key: IdempotencyKey = None,
) -> ChatAnswer | Response:
    order = _order(run_id, body, idempotency_key, cancels=body.on_disconnect == "cancel")
    return await turns.answer_new(gateway, request, caller, order)


def _order(run_id: UUID, body: ResumeBody, idempotency_key: str | None, *, cancels: bool = False) -> RunOrder:
    decisions = [decision_of(one) for one in body.decisions]
    return RunOrder(
        run_id=RunId(new_id()),
        message="",
        metadata={},
        cancels_on_disconnect=cancels,
        idempotency_key=idempotency_key,
        resume=ResumeOrder(RunId(run_id), decisions),
    )
