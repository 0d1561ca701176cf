"""The documents that anyone may read, limited by client address before anything else looks at the request.

The OpenAPI document takes 2 ms to encode each time, and a client needs each document once in five minutes.
"""

from typing import Final

from mesh_common.errors import RateLimited
from starlette.types import ASGIApp, Receive, Scope, Send

from mesh_gateway.edge.client_address import ClientAddresses
from mesh_gateway.edge.errors import error_response
from mesh_gateway.limits.address_budget import AddressBudget
from mesh_gateway.request_record import record_of

PATHS: Final = frozenset({"/openapi.json", "/.well-known/jwks.json", "/.well-known/openid-configuration"})


class DocumentLimits:
    def __init__(self, app: ASGIApp, budget: AddressBudget, addresses: ClientAddresses) -> None:
        self._app = app
        self._budget = budget
        self._addresses = addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in PATHS:
            await self._app(scope, receive, send)
            return
        address = self._addresses.key_of(scope)
        try:
            self._budget.require(address)
        except RateLimited as error:
            await error_response(error, record_of(scope))(scope, receive, send)
            return
        self._budget.spend(address)
        await self._app(scope, receive, send)
