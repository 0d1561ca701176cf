"""Chat in one call; creates a thread if none is given."""

from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from mesh_common.ids import RunId, new_id

from mesh_gateway.edge.deps import CallerDep, GatewayDep
from mesh_gateway.edge.event_stream import EventStreamResponse
from mesh_gateway.protocols.native import turns
from mesh_gateway.protocols.native.params import IdempotencyKey, LastEventIdDep
from mesh_gateway.protocols.native.routes.docs import problems, stream
from mesh_gateway.protocols.native.schemas.runs import ChatAnswer, OneCallBody
from mesh_gateway.runs.order import RunOrder

router = APIRouter(prefix="/api/v1/chatbot", tags=["chatbot"])


@router.post(
    "/chat",
    summary="Send a message and get the answer",
    response_model=ChatAnswer,
    responses=problems(401, 403, 404, 409, 413, 422, 429),
)
async def chat(
    body: OneCallBody,
    request: Request,
    gateway: GatewayDep,
    caller: CallerDep,
    idempotency_key: IdempotencyKey = None,
) -> ChatAnswer | Response:
    return await turns.answer_new(gateway, request, caller, _order(body, idempotency_key))


@router.post(
    "/chat/stream",
    summary="Send a message and stream the answer",
    status_code=HTTPStatus.OK,
    response_class=EventStreamResponse,
    response_model=None,
    responses={
        204: {"description": "Only with Last-Event-ID: no more events will come; GET the run."},
        **stream(401, 403, 404, 409, 413, 422, 429),
    },
)
async def stream_chat(
    body: OneCallBody,
    request: Request,
    gateway: GatewayDep,
    caller: CallerDep,
    last_event_id: LastEventIdDep,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    if last_event_id:
        return await turns.stream_followed(gateway, request, caller, last_event_id.run_id, last_event_id)
    return await turns.stream_new(gateway, request, caller, _order(body, idempotency_key))


def _order(body: OneCallBody, idempotency_key: str | None) -> RunOrder:
    return RunOrder(
        run_id=RunId(new_id()),
        thread_id=str(body.thread_id) if body.thread_id else None,
        message=body.message,
        model=body.model,
        assistant=body.assistant,
        response_format_json=body.response_format.as_json() if body.response_format else None,
        metadata=body.metadata,
        idempotency_key=idempotency_key,
    )
