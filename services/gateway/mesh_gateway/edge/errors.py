"""Turns errors into responses: their HTTP status and headers, and a body in the format of the request's protocol.

Nothing of the request is echoed. FastAPI's own handler echoes it, and so answers 500 to a lone surrogate.
"""

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Response
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from mesh_common import errors
from mesh_common.errors import FieldFault, Internal, InvalidInput, MeshError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketState

from mesh_gateway.edge.media_types import missing_media_type
from mesh_gateway.edge.path_methods import PathMethods, allow
from mesh_gateway.edge.patterns import PATTERN_WORDS
from mesh_gateway.identity.access_tokens import MISSING_TOKEN
from mesh_gateway.request_record import Refusal, RequestRecord, record_of

# Most specific class first.
_STATUS: Final[tuple[tuple[type[MeshError], HTTPStatus], ...]] = (
    (errors.InvalidInput, HTTPStatus.UNPROCESSABLE_ENTITY),
    (errors.TooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (errors.Unauthenticated, HTTPStatus.UNAUTHORIZED),
    (errors.PermissionDenied, HTTPStatus.FORBIDDEN),
    (errors.NotFound, HTTPStatus.NOT_FOUND),
    (errors.AlreadyExists, HTTPStatus.CONFLICT),
    (errors.Conflict, HTTPStatus.CONFLICT),
    (errors.PreconditionFailed, HTTPStatus.CONFLICT),
    (errors.RateLimited, HTTPStatus.TOO_MANY_REQUESTS),
    (errors.Unavailable, HTTPStatus.SERVICE_UNAVAILABLE),
    (errors.DeadlineExceeded, HTTPStatus.GATEWAY_TIMEOUT),
)
# Statuses that FastAPI and our limits raise without an error class.
_REASONS: Final = {
    HTTPStatus.NOT_FOUND: ("ROUTE_NOT_FOUND", "There is nothing at this address."),
    HTTPStatus.METHOD_NOT_ALLOWED: ("METHOD_NOT_ALLOWED", "This address does not allow that method."),
    HTTPStatus.REQUEST_TIMEOUT: ("REQUEST_TIMEOUT", "The body took too long to arrive."),
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: ("UNSUPPORTED_MEDIA_TYPE", "The body's Content-Type is missing or not known."),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ("TOO_LARGE", "The body is larger than this service takes."),
    HTTPStatus.REQUEST_URI_TOO_LONG: ("URL_TOO_LONG", "The address is longer than this service takes."),
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: ("HEADERS_TOO_LARGE", "There are too many or too large headers."),
}
# RFC 6455, section 7.4.1, and the IANA registry: 1008 policy violation, 1011 internal error, 1013 try again later.
_POLICY_VIOLATION: Final = 1008
INTERNAL_ERROR: Final = 1011
_CLOSE_CODES: Final[Mapping[int, int]] = {
    HTTPStatus.INTERNAL_SERVER_ERROR: INTERNAL_ERROR,
    HTTPStatus.TOO_MANY_REQUESTS: 1013,
    HTTPStatus.SERVICE_UNAVAILABLE: 1013,
    HTTPStatus.GATEWAY_TIMEOUT: 1013,
}
_DEFAULT_RETRY_AFTER_S = 1.0
_MAX_FIELD_CHARS = 128
_MAX_FAULTS = 20


def install_handlers(app: FastAPI) -> None:
    """Replaces FastAPI's own handlers. LastCatch (observer.py) catches everything else."""
    app.add_exception_handler(MeshError, _on_mesh_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(WebSocketRequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_exception)


def status_of(error: MeshError) -> HTTPStatus:
    return next((status for cls, status in _STATUS if isinstance(error, cls)), HTTPStatus.INTERNAL_SERVER_ERROR)


def error_response(error: MeshError, record: RequestRecord) -> Response:
    return _response(_refusal_of(error), record)


def status_response(status: HTTPStatus, record: RequestRecord, headers: Mapping[str, str] | None = None) -> Response:
    """A refusal that has a status but no error class: 404 without a route, 405, 413, 414, 431."""
    return _response(_refusal_by(status, headers or {}), record)


def _refusal_of(error: MeshError) -> Refusal:
    status = status_of(error)
    return Refusal(status, error.reason, error.message, error.fields, _challenge(error) | _retry_after(error, status))


def _refusal_by(status: HTTPStatus, headers: Mapping[str, str]) -> Refusal:
    reason, detail = _REASONS.get(status, (status.name, status.description or status.phrase))
    return Refusal(status, reason, detail, headers=headers)


def _response(refusal: Refusal, record: RequestRecord) -> Response:
    record.reason = refusal.reason
    status, body = record.dialect.render(refusal, record)
    return Response(body, status_code=status, media_type=record.dialect.media_type, headers=dict(refusal.headers))


async def _on_mesh_error(connection: Request | WebSocket, error: Exception) -> Response:
    known = error if isinstance(error, MeshError) else Internal("Something went wrong on our side.")
    return _answered(connection, _refusal_of(known))


async def _on_invalid_request(connection: Request | WebSocket, error: Exception) -> Response:
    needed = missing_media_type(connection) if isinstance(connection, Request) else None
    if needed:
        return _answered(connection, _refusal_by(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, {"Accept": needed}))
    found = error.errors() if isinstance(error, (RequestValidationError, WebSocketRequestValidationError)) else []
    faults = tuple(_fault(item) for item in found[:_MAX_FAULTS])
    detail = "; ".join(f"{fault.field}: {fault.message}" for fault in faults[:3]) or "The request is not valid."
    return _answered(connection, _refusal_of(InvalidInput(detail, fields=faults)))


async def _on_http_exception(connection: Request | WebSocket, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        return _answered(connection, _refusal_of(Internal("Something went wrong on our side.")))
    if error.status_code == HTTPStatus.BAD_REQUEST:
        # FastAPI raises this for a body that it could not parse at all.
        return _answered(connection, _refusal_of(InvalidInput.of_field("body", "could not be read")))
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        # The router names the methods of one route.
        methods: PathMethods = connection.app.state.path_methods
        headers["Allow"] = allow(methods.of(connection.scope["path"]) or frozenset())
    return _answered(connection, _refusal_by(HTTPStatus(error.status_code), headers))


def _answered(connection: Request | WebSocket, refusal: Refusal) -> Response:
    """A response over HTTP or in place of a WebSocket handshake; after the handshake, a close."""
    response = _response(refusal, record_of(connection.scope))
    if isinstance(connection, WebSocket) and connection.application_state is not WebSocketState.CONNECTING:
        return _ClosedWebSocket(connection, _CLOSE_CODES.get(refusal.status, _POLICY_VIOLATION), refusal.reason)
    return response


class _ClosedWebSocket(Response):
    """A response for Starlette to send that only closes the WebSocket, and does so once."""

    def __init__(self, websocket: WebSocket, code: int, reason: str) -> None:
        super().__init__()
        self._websocket = websocket
        self._code = code
        self._reason = reason

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive, send
        if self._websocket.application_state is WebSocketState.CONNECTED:
            await self._websocket.close(self._code, self._reason)


def _fault(item: dict[str, Any]) -> FieldFault:
    """The path of a field as the caller knows it, and what is wrong with it."""
    part_of_request, *path = item["loc"]
    if part_of_request == "body" and item["type"] == "json_invalid":
        return FieldFault("body", "is not valid JSON")
    name = ".".join(str(part) for part in path) or str(part_of_request)
    # A map's keys are the caller's own text.
    field = name.encode("utf-8", "replace").decode()[:_MAX_FIELD_CHARS]
    if item["type"].startswith("uuid"):
        return FieldFault(field, "is not a UUID")
    words = _words(item["type"], item.get("ctx", {}))
    return FieldFault(field, words or str(item["msg"]).removeprefix("Value error, "))


def _words(kind: str, bounds: Mapping[str, Any]) -> str | None:
    """pydantic's most common complaints in plain English; None for the others."""
    # For a string that one of our validators has processed, pydantic's type is "Value".
    unit = "characters" if bounds.get("field_type", "Value") == "Value" else "entries"
    match kind.removeprefix("string_"):
        case "missing":
            return "is required"
        case "pattern_mismatch":
            return PATTERN_WORDS.get(bounds["pattern"])
        case "too_short":
            least = bounds["min_length"]
            return "should not be empty" if least == 1 else f"needs at least {least} {unit}"
        case "too_long":
            verb = "is longer than" if unit == "characters" else "has more than"
            return f"{verb} {bounds['max_length']} {unit}"
    return None


def _challenge(error: MeshError) -> dict[str, str]:
    """RFC 6750, section 3: no error code if no token was sent at all."""
    if not isinstance(error, errors.Unauthenticated):
        return {}
    if error.reason == MISSING_TOKEN:
        return {"WWW-Authenticate": 'Bearer realm="mesh"'}
    return {"WWW-Authenticate": 'Bearer realm="mesh", error="invalid_token"'}


def _retry_after(error: MeshError, status: HTTPStatus) -> dict[str, str]:
    if status not in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        return {}
    wait_s = _DEFAULT_RETRY_AFTER_S if error.retry_after_s is None else error.retry_after_s
    return {"Retry-After": str(max(1, math.ceil(wait_s)))}
