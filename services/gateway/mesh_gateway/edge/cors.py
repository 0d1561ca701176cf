"""CORS: which browser origins may call the API. Refused preflights get the same error format as other errors."""

from http import HTTPStatus

from mesh_common.errors import PermissionDenied
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Receive, Scope, Send

from mesh_gateway.edge.errors import error_response
from mesh_gateway.request_record import record_of


class Cors(CORSMiddleware):
    """Starlette's, which refuses a preflight with plain text."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # WebSockets pass: their tokens are in headers or tickets, and a foreign page cannot make a browser send those.
        refusal = self._refused_preflight(scope) if scope["type"] == "http" else None
        if refusal is None:
            await super().__call__(scope, receive, send)
            return
        error = PermissionDenied("Pages of this origin may not make that request.", reason="CORS_REFUSED")
        response = error_response(error, record_of(scope))
        response.headers.update(refusal)
        await response(scope, receive, send)

    def _refused_preflight(self, scope: Scope) -> dict[str, str] | None:
        """The CORS headers of a refusal; None if the request is allowed or is not a preflight."""
        headers = Headers(scope=scope)
        if scope["method"] != "OPTIONS" or not {"origin", "access-control-request-method"} <= set(headers):
            return None
        answer = self.preflight_response(headers)
        if answer.status_code == HTTPStatus.OK:
            return None
        return {name: value for name, value in answer.headers.items() if not name.startswith("content-")}
