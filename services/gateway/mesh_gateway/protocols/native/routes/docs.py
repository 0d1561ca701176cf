"""The parts of the OpenAPI document about errors and streams that routes share."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final
from uuid import UUID

from mesh_common.events.model import MessageDelta, RunEvent
from mesh_common.ids import RunId

from mesh_gateway.edge.patterns import EVENT_ID
from mesh_gateway.protocols.native.events import ENDS, NAMES, SCHEMA
from mesh_gateway.protocols.native.problems import MEDIA_TYPE, problem_type
from mesh_gateway.protocols.native.schemas.common import Problem
from mesh_gateway.protocols.native.sse import MEDIA_TYPE as SSE_MEDIA_TYPE
from mesh_gateway.protocols.native.sse import SSEEncoder

type Responses = dict[int | str, dict[str, Any]]

# Statuses of every route that calls another service: our limits, outages, our own faults.
_EVERYWHERE: Final = (431, 500, 503, 504)
_EXAMPLES: Final[Mapping[int, tuple[str, str, str]]] = {
    401: (
        "The token is missing, expired, revoked or not valid; or the credentials are wrong.",
        "INVALID_TOKEN",
        "The token is missing, expired or not valid. Log in again.",
    ),
    403: ("Your account may not do that.", "PERMISSION_DENIED", "Your account may not use this model."),
    404: ("It does not exist or is not yours.", "NOT_FOUND", "There is no such thread."),
    409: ("Its state does not allow it, or the name is taken.", "CONFLICT", "The thread has a run that has not ended."),
    408: (
        "The body took too long to arrive; the connection is closed.",
        "REQUEST_TIMEOUT",
        "The body took too long to arrive.",
    ),
    413: (
        "The body is too large, or the conversation is too long for every model (CONTEXT_TOO_LONG).",
        "TOO_LARGE",
        "The body is larger than this service takes.",
    ),
    415: (
        "The body's Content-Type is missing or another one; `Accept` names the right one.",
        "UNSUPPORTED_MEDIA_TYPE",
        "The body's Content-Type is missing or not known.",
    ),
    422: ("The request is not valid; `errors` names the fields.", "INVALID_INPUT", "message: should not be empty"),
    429: ("A limit is reached; wait for `Retry-After` seconds.", "RATE_LIMITED", "Too many requests. Wait a moment."),
    431: ("Too many or too large headers.", "HEADERS_TOO_LARGE", "There are too many or too large headers."),
    500: ("An error on our side; report the trace id.", "INTERNAL", "Something went wrong on our side."),
    503: (
        "A part of the service is unavailable or at its limit; retry after `Retry-After` seconds.",
        "UNAVAILABLE",
        "A part of the service is not reachable right now. Try again.",
    ),
    504: ("No answer in time; the state is unknown.", "DEADLINE_EXCEEDED", "The service did not answer in time."),
}
_RETRY_AFTER: Final = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}
_RATE_LIMIT: Final = {
    "RateLimit": {"description": 'E.g. `"chat";r=99;t=60`.', "schema": {"type": "string"}},
    "RateLimit-Policy": {"description": 'E.g. `"chat";q=100;w=60`.', "schema": {"type": "string"}},
}
_TRACE_ID: Final = {"X-Trace-Id": {"description": "Report it with an error.", "schema": {"type": "string"}}}
# Of every operation that reads a body.
_OF_BODIES: Final = (408, 413, 415, 422)
_CHALLENGE: Final = {"WWW-Authenticate": {"description": "RFC 6750.", "schema": {"type": "string"}}}
_HEADERS: Final[Mapping[int, dict[str, Any]]] = {
    401: _CHALLENGE,
    415: {"Accept": {"description": "The media type that is read.", "schema": {"type": "string"}}},
    429: {**_RETRY_AFTER, **_RATE_LIMIT},
    503: _RETRY_AFTER,
}
NO_MORE_EVENTS: Final[Responses] = {204: {"description": "No more events will come; GET the run."}}
# Of one event, as OpenAPI 3.2 describes streams.
_FRAME: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["id", "event", "data"],
    "properties": {
        "id": {"type": "string", "pattern": EVENT_ID},
        "event": {"type": "string", "description": "The `type` of the data."},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": f"#/components/schemas/{SCHEMA}"},
        },
    },
}
_STREAM_EXAMPLE: Final = (
    SSEEncoder()
    .encode(
        RunEvent(
            RunId(UUID("0199f0c4-4444-7c3a-8f11-3a4b5c6d7e8f")),
            1,
            3,
            MessageDelta("0199f0c4-3333-7c3a-8f11-3a4b5c6d7e8f", "Paris"),
        )
    )
    .decode()
)


def problems(*statuses: int) -> Responses:
    """The error responses of a route: `statuses` and those that every route has."""
    return {status: _problem(status) for status in sorted({*statuses, *_EVERYWHERE})}


def complete(document: dict[str, Any]) -> None:
    """Corrects parameters, and adds what holds for every operation: errors of bodies, headers of responses."""
    for methods in document["paths"].values():
        for operation in methods.values():
            for parameter in operation.get("parameters", ()):
                parameter["schema"] = _without_null(parameter["schema"])
            responses: dict[str, Any] = operation["responses"]
            if "requestBody" in operation:
                responses |= {str(status): _problem(status) for status in _OF_BODIES}
            operation["responses"] = dict(sorted(responses.items()))
            for status, response in responses.items():
                limits = _RATE_LIMIT if "429" in responses and status < "300" else {}
                response["headers"] = _TRACE_ID | limits | response.get("headers", {})


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """FastAPI documents a parameter that may be absent as one that may be null, which no header or query can be."""
    kinds: list[dict[str, Any]] = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return schema
    return {name: value for name, value in schema.items() if name != "anyOf"} | kinds[0]


def stream(*statuses: int) -> Responses:
    """A route that answers with events: one event per frame, and exactly one terminal event at the end of a run."""
    location = {"schema": {"type": "string"}}
    ok = {
        "description": (
            f"Server-sent events: {', '.join(NAMES)}, then one of {', '.join(ENDS)}. "
            "The first is run_started, or run_restarted in a later attempt; `data` is a RunEvent. "
            "If a stream closes without one of these, reconnect with Last-Event-ID. "
            "`: ping` is sent while the stream is idle."
        ),
        "content": {
            SSE_MEDIA_TYPE: {
                "schema": _FRAME,
                "example": _STREAM_EXAMPLE,
                "x-data-schema": {"$ref": f"#/components/schemas/{SCHEMA}"},
            }
        },
        "headers": {
            "Location": {"description": "The run.", **location},
            "Content-Location": {"description": "Its events: GET this with Last-Event-ID.", **location},
        },
    }
    return {200: ok, **problems(*statuses)}


def _problem(status: int) -> dict[str, Any]:
    description, reason, detail = _EXAMPLES[status]
    example: dict[str, Any] = {
        "type": problem_type(reason),
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "reason": reason,
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    }
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        example["errors"] = [{"field": "message", "message": "should not be empty"}]
    return {
        "description": description,
        "content": {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}, "example": example}},
        "headers": _HEADERS.get(status, {}),
    }
