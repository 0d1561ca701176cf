"""Converts assistants between proto and domain, and validates requests. Errors name the invalid field."""

from typing import Final

from mesh.agent.v1 import agent_pb2 as pb
from mesh_common.assistant import NAME_PATTERN
from mesh_common.errors import InvalidInput

from mesh_agent.assistants.model import Assistant, Source, Visibility
from mesh_agent.convert import timestamp

_MAX_VERSION_CHARS: Final = 16
_SOURCE: Final = {Source.FILE: pb.ASSISTANT_SOURCE_FILE, Source.API: pb.ASSISTANT_SOURCE_API}
_VISIBILITY: Final = {
    Visibility.PRIVATE: pb.ASSISTANT_VISIBILITY_PRIVATE,
    Visibility.ORGANISATION: pb.ASSISTANT_VISIBILITY_ORGANISATION,
}
_VISIBILITY_BY_PB: Final[dict[int, Visibility]] = {number: one for one, number in _VISIBILITY.items()}


def assistant_pb(one: Assistant) -> pb.Assistant:
    return pb.Assistant(
        name=one.name,
        version=one.version,
        is_current=one.is_current,
        source=_SOURCE[one.source],
        visibility=_VISIBILITY[one.visibility],
        is_disabled=one.is_disabled,
        spec_json=one.spec_json,
        created_at=timestamp(one.created_at) if one.created_at else None,
        created_by=str(one.created_by) if one.created_by else "",
    )


def visibility(value: int) -> Visibility | None:
    """None if nothing is said."""
    if value == pb.ASSISTANT_VISIBILITY_UNSPECIFIED:
        return None
    if value not in _VISIBILITY_BY_PB:
        raise InvalidInput.of_field("visibility", "is not a visibility of this service")
    return _VISIBILITY_BY_PB[value]


def name(value: str) -> str:
    if not NAME_PATTERN.fullmatch(value):
        raise InvalidInput.of_field("name", "must be 1 to 63 lower-case letters, digits and inner hyphens")
    return value


def version(value: str) -> str:
    if not 1 <= len(value) <= _MAX_VERSION_CHARS or not value.isascii():
        raise InvalidInput.of_field("version", f"must be 1 to {_MAX_VERSION_CHARS} ASCII characters")
    return value
