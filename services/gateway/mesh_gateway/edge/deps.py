"""What routes ask for: the gateway's parts, the caller, headers. All async: FastAPI runs others in threads."""

from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Header, Query, Request
from fastapi.security import APIKeyQuery, OAuth2PasswordBearer
from mesh_common.ids import RunId
from mesh_common.jwt import invalid_token

from mesh_gateway.clients.agent import AgentClient
from mesh_gateway.clients.auth import AuthClient
from mesh_gateway.clients.evals import EvalClient
from mesh_gateway.clients.memory import MemoryClient
from mesh_gateway.edge.client_address import ClientAddresses
from mesh_gateway.edge.readiness import Readiness
from mesh_gateway.edge.request_record import RequestRecord, record_of
from mesh_gateway.identity.access_tokens import AccessTokens, Principal
from mesh_gateway.identity.signing_keys import SigningKeys
from mesh_gateway.identity.tickets import StreamTickets
from mesh_gateway.limits.rate_limit import RateLimiter
from mesh_gateway.limits.stream_slots import OpenStreams
from mesh_gateway.protocols.native.schemas.common import VISIBLE_ASCII, Cursor
from mesh_gateway.runs.events import EventPosition
from mesh_gateway.settings import GatewaySettings

LOGIN_PATH = "/api/v1/auth/login"
_MAX_TOKEN_CHARS = 8_192

_bearer = OAuth2PasswordBearer(
    tokenUrl=LOGIN_PATH,
    scheme_name="AccessToken",
    description="An access token of POST /api/v1/auth/login, as `Authorization: Bearer …`.",
    auto_error=False,
)
_ticket = APIKeyQuery(
    name="ticket",
    scheme_name="StreamTicket",
    description="A ticket of POST /api/v1/runs/{run_id}/ticket, for EventSource; an access token goes before it.",
    auto_error=False,
)


@dataclass(frozen=True, slots=True)
class Gateway:
    """Everything a route may use; made once in bootstrap."""

    settings: GatewaySettings
    auth: AuthClient
    agent: AgentClient
    memory: MemoryClient
    evals: EvalClient
    keys: SigningKeys
    tokens: AccessTokens
    limits: RateLimiter
    streams: OpenStreams
    tickets: StreamTickets
    addresses: ClientAddresses
    readiness: Readiness


async def _gateway(request: Request) -> Gateway:
    gateway = request.app.state.gateway
    if not isinstance(gateway, Gateway):
        raise TypeError("the application was made without its parts")
    return gateway


async def _record(request: Request) -> RequestRecord:
    return record_of(request.scope)


GatewayDep = Annotated[Gateway, Depends(_gateway)]
RecordDep = Annotated[RequestRecord, Depends(_record)]


async def _principal(gateway: GatewayDep, token: Annotated[str | None, Depends(_bearer)]) -> Principal:
    if token and len(token) > _MAX_TOKEN_CHARS:
        raise invalid_token()
    return await gateway.tokens.authenticate(token)


async def _follower(
    run_id: UUID,
    gateway: GatewayDep,
    token: Annotated[str | None, Depends(_bearer)],
    ticket: Annotated[str | None, Depends(_ticket)],
) -> Principal:
    if token or not ticket:
        return await _principal(gateway, token)
    return await gateway.tickets.take(ticket, RunId(run_id))


async def _client_key(request: Request, gateway: GatewayDep) -> str:
    return gateway.addresses.key_of(request.scope)


async def _last_event_id(
    last_event_id: Annotated[
        str | None,
        Header(
            description="Id of the last event seen; the run is followed from there. A run is never started with it.",
            examples=["0199f0c4-4444-7c3a-8f11-3a4b5c6d7e8f:1:12"],
        ),
    ] = None,
) -> EventPosition | None:
    return EventPosition.parse(last_event_id, "Last-Event-ID") if last_event_id else None


async def _follow_from(
    header: Annotated[EventPosition | None, Depends(_last_event_id)],
    last_event_id: Annotated[
        str | None,
        Query(description="The same as the header, which goes before it: a new EventSource can send no header."),
    ] = None,
) -> EventPosition | None:
    if header or not last_event_id:
        return header
    return EventPosition.parse(last_event_id, "last_event_id")


CallerDep = Annotated[Principal, Depends(_principal)]
FollowerDep = Annotated[Principal, Depends(_follower)]
ClientKeyDep = Annotated[str, Depends(_client_key)]
LastEventIdDep = Annotated[EventPosition | None, Depends(_last_event_id)]
FollowFromDep = Annotated[EventPosition | None, Depends(_follow_from)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        pattern=VISIBLE_ASCII,
        description="1 to 255 visible ASCII characters. The same key gives the same thing; another body gives 422.",
        examples=["order-4711"],
    ),
]
Limit = Annotated[int, Query(ge=1, le=100, description="Items a page.")]
PageCursor = Annotated[Cursor | None, Query(description="`next_cursor` of the page before.")]
SearchText = Annotated[str | None, Query(min_length=1, max_length=200, description="Part of a title, in any case.")]
ThreadId = UUID
