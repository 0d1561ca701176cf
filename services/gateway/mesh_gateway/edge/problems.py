"""RFC 9457 problem documents: the one place where an error is rendered for people.

Nothing of the request is echoed: FastAPI's own handler answers 500 to a lone surrogate because it does.
"""

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from mesh_common import errors
from mesh_common.errors import FieldFault, Internal, InvalidInput, MeshError
from starlette.exceptions import HTTPException

from mesh_gateway.edge.request_record import RequestRecord, record_of
from mesh_gateway.protocols.native.schemas.common import PATTERN_WORDS

MEDIA_TYPE: Final = "application/problem+json"
# Most specific class first, as DESIGN's table of errors.
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
# Statuses that FastAPI and our limits speak of by number.
_REASONS: Final = {
    HTTPStatus.NOT_FOUND: ("ROUTE_NOT_FOUND", "There is nothing at this address."),
    HTTPStatus.METHOD_NOT_ALLOWED: ("METHOD_NOT_ALLOWED", "This address does not take that method."),
    HTTPStatus.REQUEST_TIMEOUT: ("BODY_TIMEOUT", "The body took too long to arrive."),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ("TOO_LARGE", "The body is larger than this service takes."),
    HTTPStatus.REQUEST_URI_TOO_LONG: ("URL_TOO_LONG", "The address is longer than this service takes."),
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: ("HEADERS_TOO_LARGE", "There are too many or too large headers."),
}
MISSING_TOKEN: Final = "TOKEN_REQUIRED"  # noqa: S105 - a reason, no secret
_DEFAULT_RETRY_AFTER_S = 1.0
_MAX_FIELD_CHARS = 128
_MAX_FAULTS = 20


def install_handlers(app: FastAPI) -> None:
    """Replaces FastAPI's own; what is left over is caught by the observer, the gateway's boundary."""
    app.add_exception_handler(MeshError, _on_mesh_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_exception)


def status_of(error: MeshError) -> HTTPStatus:
    return next((status for cls, status in _STATUS if isinstance(error, cls)), HTTPStatus.INTERNAL_SERVER_ERROR)


def problem_response(error: MeshError, record: RequestRecord) -> Response:
    status = status_of(error)
    headers = _challenge(error) | _retry_after(error, status)
    return _response(status, error.reason, error.message, record, headers=headers, faults=error.fields)


def status_response(status: HTTPStatus, record: RequestRecord, headers: dict[str, str] | None = None) -> Response:
    """A refusal that has a status and no error class: 404 without a route, 405, 413, 414, 431."""
    reason, detail = _REASONS.get(status, (status.name, status.description or status.phrase))
    return _response(status, reason, detail, record, headers=headers or {})


async def _on_mesh_error(request: Request, error: Exception) -> Response:
    known = error if isinstance(error, MeshError) else Internal("Something went wrong on our side.")
    return problem_response(known, record_of(request.scope))


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    found = error.errors() if isinstance(error, RequestValidationError) else []
    faults = tuple(_fault(item) for item in found[:_MAX_FAULTS])
    detail = "; ".join(f"{fault.field}: {fault.message}" for fault in faults[:3]) or "The request is not valid."
    return problem_response(InvalidInput(detail, fields=faults), record_of(request.scope))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    record = record_of(request.scope)
    if not isinstance(error, HTTPException):
        return problem_response(Internal("Something went wrong on our side."), record)
    if error.status_code == HTTPStatus.BAD_REQUEST:
        # FastAPI's word for a body that it could not parse at all.
        return problem_response(InvalidInput.of_field("body", "could not be read"), record)
    return status_response(HTTPStatus(error.status_code), record, dict(error.headers or {}))


def _response(
    status: HTTPStatus,
    reason: str,
    detail: str,
    record: RequestRecord,
    *,
    headers: dict[str, str],
    faults: Sequence[FieldFault] = (),
) -> Response:
    record.reason = reason
    document: dict[str, Any] = {
        "type": f"urn:mesh:problem:{reason.lower().replace('_', '-')}",
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
        "reason": reason,
        "trace_id": record.trace_id,
        **record.members,
    }
    if faults:
        document["errors"] = [{"field": fault.field, "message": fault.message} for fault in faults]
    return Response(orjson.dumps(document), status_code=status, media_type=MEDIA_TYPE, headers=headers)


def _fault(item: dict[str, Any]) -> FieldFault:
    """The path of a field in the caller's words, and what is wrong with it."""
    place, *path = item["loc"]
    if place == "body" and item["type"] == "json_invalid":
        return FieldFault("body", "is not valid JSON")
    name = ".".join(str(part) for part in path) or str(place)
    # Keys of maps are the caller's own text.
    field = name.encode("utf-8", "replace").decode()[:_MAX_FIELD_CHARS]
    if item["type"].startswith("uuid"):
        return FieldFault(field, "is not a UUID")
    words = _words(item["type"], item.get("ctx", {}))
    return FieldFault(field, words or str(item["msg"]).removeprefix("Value error, "))


def _words(kind: str, bounds: Mapping[str, Any]) -> str | None:
    """pydantic's most common complaints in plain English; None for the others."""
    # To pydantic a text that a validator of ours has seen is a "Value".
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
    """RFC 6750, section 3: no error code when no token was sent at all."""
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
