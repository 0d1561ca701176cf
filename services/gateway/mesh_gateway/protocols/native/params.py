"""Parameters of the native API's routes."""

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Header, Query
from mesh_common.ids import RunId
from mesh_common.text import composed
from pydantic import AfterValidator, JsonValue, StringConstraints
from starlette.requests import HTTPConnection

from mesh_gateway.edge.deps import AccessTokenDep, ClientKeyDep, GatewayDep, RecordDep, TicketDep, authenticated
from mesh_gateway.edge.patterns import EVENT_ID, VISIBLE_ASCII
from mesh_gateway.identity.access_tokens import Principal
from mesh_gateway.limits.rate_limit import Limit as RateLimit
from mesh_gateway.protocols.native.schemas.common import CleanText, Cursor
from mesh_gateway.runs.position import EventPosition

# An empty one counts as absent: EventSource begins with an empty id.
_EVENT_ID: dict[str, JsonValue] = {"pattern": f"^$|{EVENT_ID}"}


async def _follower(
    connection: HTTPConnection,
    run_id: UUID,
    gateway: GatewayDep,
    token: AccessTokenDep,
    ticket: TicketDep,
    address: ClientKeyDep,
    record: RecordDep,
) -> Principal:
    if token or not ticket:
        return await authenticated(connection, gateway, token)
    gateway.tickets.require_form(ticket)
    await gateway.limits.charge(
        RateLimit("ticket-address", gateway.settings.anonymous_limit_per_minute), address, record
    )
    return await gateway.tickets.take(ticket, RunId(run_id))


async def _last_event_id(
    last_event_id: Annotated[
        str | None,
        Header(
            description="Id of the last event seen. The request then follows that run and never starts one.",
            examples=["0199f0c4-4444-7c3a-8f11-3a4b5c6d7e8f:1:12"],
            json_schema_extra=_EVENT_ID,
        ),
    ] = None,
) -> EventPosition | None:
    return EventPosition.parse(last_event_id, "Last-Event-ID") if last_event_id else None


async def _follow_from(
    header: Annotated[EventPosition | None, Depends(_last_event_id)],
    last_event_id: Annotated[
        str | None,
        Query(
            description="As the header, which takes precedence: a new EventSource cannot send headers.",
            json_schema_extra=_EVENT_ID,
        ),
    ] = None,
) -> EventPosition | None:
    if header or not last_event_id:
        return header
    return EventPosition.parse(last_event_id, "last_event_id")


FollowerDep = Annotated[Principal, Depends(_follower)]
LastEventIdDep = Annotated[EventPosition | None, Depends(_last_event_id)]
FollowFromDep = Annotated[EventPosition | None, Depends(_follow_from)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        pattern=VISIBLE_ASCII,
        description="1 to 255 visible ASCII characters. A repeated key gives the first result; another body gives 422.",
        examples=["order-4711"],
    ),
]
Limit = Annotated[int, Query(ge=1, le=100, description="Items a page.")]
PageCursor = Annotated[Cursor | None, Query(description="`next_cursor` of the previous page.")]
SearchText = Annotated[
    Annotated[CleanText, AfterValidator(composed), StringConstraints(min_length=1, max_length=200)] | None,
    Query(description="Part of a title; ignores case."),
]
ThreadId = UUID
