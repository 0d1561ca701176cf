"""One run: its state, its events, its ticket, its scores, its cancellation."""

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from mesh_common.ids import RunId

from mesh_gateway.edge.costs import ReaderDep, WriterDep
from mesh_gateway.edge.deps import GatewayDep
from mesh_gateway.edge.event_stream import EventStreamResponse
from mesh_gateway.protocols.native import answers, turns
from mesh_gateway.protocols.native.params import FollowerDep, FollowFromDep
from mesh_gateway.protocols.native.routes.docs import NO_MORE_EVENTS, problems, stream
from mesh_gateway.protocols.native.schemas.catalogue import Scores
from mesh_gateway.protocols.native.schemas.runs import Run, StreamTicket

router = APIRouter(prefix="/api/v1/runs/{run_id}", tags=["runs"])

WaitSeconds = Annotated[
    float,
    Query(
        ge=0,
        le=60,
        allow_inf_nan=False,
        description=(
            "Answer once the run has ended, or after this many seconds with its current state (earlier if this replica "
            "stops). Counts as one of your open streams."
        ),
    ),
]


@router.get(
    "", summary="Get a run, at once or once it has ended", response_model=Run, responses=problems(401, 404, 422, 429)
)
async def get_run(
    run_id: UUID, request: Request, gateway: GatewayDep, caller: ReaderDep, wait_s: WaitSeconds = 0
) -> Run | Response:
    return await turns.run_within(gateway, request, caller, RunId(run_id), wait_s)


@router.get(
    "/events",
    summary="Follow a run's events",
    status_code=HTTPStatus.OK,
    response_class=EventStreamResponse,
    response_model=None,
    responses={**NO_MORE_EVENTS, **stream(401, 404, 409, 422, 429)},
)
async def follow_run(
    run_id: UUID, request: Request, gateway: GatewayDep, caller: FollowerDep, last_event_id: FollowFromDep
) -> Response:
    return await turns.stream_followed(gateway, request, caller, RunId(run_id), last_event_id)


@router.post(
    "/ticket",
    status_code=HTTPStatus.CREATED,
    summary="Get a ticket for the run's events",
    description="For EventSource, which cannot send headers. Valid once, for this run, within 60 seconds.",
    responses=problems(401, 404, 422, 429),
)
async def create_ticket(run_id: UUID, gateway: GatewayDep, caller: WriterDep) -> StreamTicket:
    # The agent checks that the run is the caller's.
    await gateway.agent.run(caller.subject, RunId(run_id))
    ticket = await gateway.tickets.issue(caller, RunId(run_id))
    url = f"/api/v1/runs/{run_id}/events?ticket={ticket.secret}"
    return StreamTicket(ticket=ticket.secret, expires_at=ticket.expires_at, url=url)


@router.post(
    "/cancel",
    status_code=HTTPStatus.OK,
    summary="Cancel a run",
    description="A run that has already ended does not change.",
    responses=problems(401, 404, 422, 429),
)
async def cancel_run(run_id: UUID, gateway: GatewayDep, caller: WriterDep) -> Run:
    return answers.run(await gateway.agent.cancel_run(caller.subject, RunId(run_id)))


@router.get(
    "/scores",
    summary="List the judge's scores of a run",
    description="Empty if the run has not been judged (yet).",
    responses=problems(401, 404, 422, 429),
)
async def list_scores(run_id: UUID, gateway: GatewayDep, caller: ReaderDep) -> Scores:
    # The agent checks that the run is the caller's: eval has no rows for runs that were not sampled.
    await gateway.agent.run(caller.subject, RunId(run_id))
    return answers.scores(await gateway.evals.scores(caller.subject, RunId(run_id)))
