"""Identifiers: UUIDv7 (RFC 9562), which sort by creation time and keep B-trees dense."""

from typing import NewType
from uuid import UUID

from uuid_utils import compat

from mesh_common.errors import InvalidInput

OrganisationId = NewType("OrganisationId", UUID)
UserId = NewType("UserId", UUID)
ThreadId = NewType("ThreadId", UUID)
RunId = NewType("RunId", UUID)


def new_id() -> UUID:
    return compat.uuid7()


def parse_id(text: str, field: str) -> UUID:
    """The UUID in its canonical form. Raises InvalidInput naming `field` for anything else."""
    try:
        parsed = UUID(text)
    except ValueError:
        raise InvalidInput.of_field(field, "is not a UUID") from None
    if str(parsed) != text.lower():
        raise InvalidInput.of_field(field, "is not a UUID in its canonical form")
    return parsed
