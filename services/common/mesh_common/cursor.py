"""Cursors of keyset paging: where the last page ended, opaque to clients, checked when they come back.

A cursor names a place, not a right: the query still runs as the user, so a foreign cursor shows nothing.
"""

import base64
import binascii
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from mesh_common.errors import InvalidInput

_MAX_CHARS = 200


def encode_time_cursor(at: datetime, row_id: UUID) -> str:
    """After the row of this time and id, in an order by both."""
    return _encode([at.isoformat(), str(row_id)])


def decode_time_cursor(cursor: str, field: str = "cursor") -> tuple[datetime, UUID]:
    """Raises InvalidInput for anything but what `encode_time_cursor` gave."""
    try:
        at, row_id = _decode(cursor)
        return datetime.fromisoformat(at), UUID(row_id)
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidInput.of_field(field, "is not a cursor of this list") from error


def encode_position_cursor(*positions: int) -> str:
    return _encode(list(positions))


def decode_position_cursor(cursor: str, count: int, field: str = "cursor") -> tuple[int, ...]:
    """Raises InvalidInput for anything but `count` integers of `encode_position_cursor`."""
    try:
        positions = _decode(cursor)
    except ValueError as error:
        raise InvalidInput.of_field(field, "is not a cursor of this list") from error
    if len(positions) != count or not all(type(position) is int and abs(position) < 2**63 for position in positions):
        raise InvalidInput.of_field(field, "is not a cursor of this list")
    return tuple(positions)


def _encode(parts: list[str] | list[int]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(parts)).decode().rstrip("=")


def _decode(cursor: str) -> list[Any]:
    if len(cursor) > _MAX_CHARS:
        raise ValueError("too long")
    try:
        parts = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, orjson.JSONDecodeError, UnicodeError) as error:
        raise ValueError("not a cursor") from error
    if not isinstance(parts, list):
        raise ValueError("not a cursor")  # noqa: TRY004 - one kind of fault for callers
    return parts
