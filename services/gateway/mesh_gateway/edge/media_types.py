"""Whether the body of a request has a media type that its route reads.

FastAPI takes the body of any other type for bytes, and reports an invalid body.
"""

from email.message import Message
from typing import Final

from fastapi import params
from fastapi.routing import APIRoute
from starlette.requests import Request

_FORMS: Final = frozenset({"application/x-www-form-urlencoded", "multipart/form-data"})


def missing_media_type(request: Request) -> str | None:
    """The media type that the route reads if the request's body has another or none."""
    route = request.scope.get("route")
    if not isinstance(route, APIRoute) or route.body_field is None:
        return None
    given = _media_type(request.headers.get("content-type", ""))
    if isinstance(route.body_field.field_info, params.Form):
        return None if given in _FORMS else min(_FORMS)
    return None if _is_json(given) else "application/json"


def _media_type(header: str) -> str | None:
    if not header:
        return None
    message = Message()
    message["content-type"] = header
    return message.get_content_type()


def _is_json(media_type: str | None) -> bool:
    kind, _, subtype = (media_type or "").partition("/")
    return kind == "application" and (subtype == "json" or subtype.endswith("+json"))
