"""Dependencies of routes: the gateway's parts, the caller, the record. All are async: FastAPI runs others in threads.

They take an `HTTPConnection`, so that WebSocket routes can use them too.
"""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from fastapi.security import APIKeyQuery, OAuth2PasswordBearer
from fastapi.security.utils import get_authorization_scheme_param
from mesh_common.errors import PermissionDenied, Unauthenticated
from mesh_common.jwt import invalid_token
from mesh_common.subject import ADMIN
from starlette.requests import HTTPConnection

from mesh_gateway.clients.agent import AgentClient
from mesh_gateway.clients.auth import AuthClient
from mesh_gateway.clients.evals import EvalClient
from mesh_gateway.clients.memory import MemoryClient
from mesh_gateway.edge.client_address import ClientAddresses
from mesh_gateway.edge.readiness import Readiness
from mesh_gateway.identity.access_tokens import AccessTokens, Principal
from mesh_gateway.identity.signing_keys import SigningKeys
from mesh_gateway.identity.tickets import StreamTickets
from mesh_gateway.limits.address_budget import AddressBudget
from mesh_gateway.limits.rate_limit import RateLimiter
from mesh_gateway.limits.stream_slots import OpenStreams
from mesh_gateway.request_record import RequestRecord, record_of
from mesh_gateway.runs.turn import Turns
from mesh_gateway.settings import GatewaySettings

LOGIN_PATH = "/api/v1/auth/login"
_MAX_TOKEN_CHARS = 8_192


class _Bearer(OAuth2PasswordBearer):
    """FastAPI's class requires a `Request`, which excludes WebSockets."""

    async def __call__(self, request: HTTPConnection) -> str | None:
        scheme, token = get_authorization_scheme_param(request.headers.get("Authorization"))
        return token if scheme.lower() == "bearer" else None


class _Ticket(APIKeyQuery):
    """As `_Bearer`."""

    async def __call__(self, request: HTTPConnection) -> str | None:
        return request.query_params.get(self.model.name)


_bearer = _Bearer(
    tokenUrl=LOGIN_PATH,
    scheme_name="AccessToken",
    description="An access token of POST /api/v1/auth/login, as `Authorization: Bearer …`.",
    auto_error=False,
)
_ticket = _Ticket(
    name="ticket",
    scheme_name="StreamTicket",
    description="A ticket of POST /api/v1/runs/{run_id}/ticket, for EventSource. An access token takes precedence.",
    auto_error=False,
)


@dataclass(frozen=True, slots=True)
class Gateway:
    """Everything a route may use; built once, in bootstrap."""

    settings: GatewaySettings
    auth: AuthClient
    agent: AgentClient
    memory: MemoryClient
    evals: EvalClient
    turns: Turns
    keys: SigningKeys
    tokens: AccessTokens
    limits: RateLimiter
    invalid_tokens: AddressBudget
    documents: AddressBudget
    streams: OpenStreams
    tickets: StreamTickets
    addresses: ClientAddresses
    readiness: Readiness


async def _gateway(connection: HTTPConnection) -> Gateway:
    gateway = connection.app.state.gateway
    if not isinstance(gateway, Gateway):
        raise TypeError("the application was built without its parts")
    return gateway


async def _record(connection: HTTPConnection) -> RequestRecord:
    return record_of(connection.scope)


GatewayDep = Annotated[Gateway, Depends(_gateway)]
RecordDep = Annotated[RequestRecord, Depends(_record)]
AccessTokenDep = Annotated[str | None, Depends(_bearer)]
TicketDep = Annotated[str | None, Depends(_ticket)]


async def authenticated(connection: HTTPConnection, gateway: GatewayDep, token: AccessTokenDep) -> Principal:
    """Raises Unauthenticated, and RateLimited for a new token if too many invalid ones come from its address.

    A token that this replica has seen is never limited: a neighbour's attack must not end a session.
    """
    if token and len(token) > _MAX_TOKEN_CHARS:
        raise invalid_token()
    if not token or gateway.tokens.has_verified(token):
        return await gateway.tokens.authenticate(token)
    address = gateway.addresses.key_of(connection.scope)
    gateway.invalid_tokens.require(address)
    try:
        return await gateway.tokens.authenticate(token)
    except Unauthenticated:
        gateway.invalid_tokens.spend(address)
        raise


async def _administrator(caller: Annotated[Principal, Depends(authenticated)]) -> Principal:
    """auth checks the account again: the token's scope may be 15 minutes old."""
    if ADMIN not in caller.subject.scopes:
        raise PermissionDenied("Only administrators may do this.", reason="ADMIN_REQUIRED")
    return caller


async def _client_key(connection: HTTPConnection, gateway: GatewayDep) -> str:
    return gateway.addresses.key_of(connection.scope)


CallerDep = Annotated[Principal, Depends(authenticated)]
AdminDep = Annotated[Principal, Depends(_administrator)]
ClientKeyDep = Annotated[str, Depends(_client_key)]
