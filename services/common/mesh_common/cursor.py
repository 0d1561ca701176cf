"""Cursors for keyset pagination: the end of the last page, opaque to clients and validated when they return it.

A cursor is a position, not a permission: the query still runs as the user, so another user's cursor reveals nothing.
"""

import base64
import binascii
import re
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import orjson

from mesh_common.errors import InvalidInput

_MAX_CHARS = 200
# No row is older. PostgreSQL and its drivers cannot convert every date that Python can parse.
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)


def encode_time_cursor(at: datetime, row_id: UUID) -> str:
    """The position after the row with this time and id, in a list sorted by both."""
    return _encode([at.isoformat(), str(row_id)])


def decode_time_cursor(cursor: str, field: str = "cursor") -> tuple[datetime, UUID]:
    """Raises InvalidInput unless `encode_time_cursor` could have produced the cursor."""
    try:
        at_text, id_text = _decode(cursor)
        at, row_id = datetime.fromisoformat(at_text), UUID(id_text)
        # The comparison raises TypeError for a time without a zone.
        is_ours = at >= _EARLIEST and not at.utcoffset() and encode_time_cursor(at, row_id) == cursor
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidInput.of_field(field, "is not a cursor of this list") from error
    if not is_ours:
        raise InvalidInput.of_field(field, "is not a cursor of this list")
    return at, row_id


def encode_position_cursor(*positions: int) -> str:
    return _encode(list(positions))


def decode_position_cursor(cursor: str, count: int, field: str = "cursor") -> tuple[int, ...]:
    """Raises InvalidInput unless `encode_position_cursor` could have produced the cursor from `count` integers."""
    try:
        positions = _decode(cursor)
    except ValueError as error:
        raise InvalidInput.of_field(field, "is not a cursor of this list") from error
    is_ours = len(positions) == count and all(type(one) is int and 0 <= one < 2**63 for one in positions)
    if not is_ours or encode_position_cursor(*positions) != cursor:
        raise InvalidInput.of_field(field, "is not a cursor of this list")
    return tuple(positions)


def encode_name_cursor(name: str) -> str:
    """The position after the row with this name, in a list sorted by it."""
    return _encode([name])


def decode_name_cursor(cursor: str, pattern: re.Pattern[str], field: str = "cursor") -> str:
    """Raises InvalidInput unless `encode_name_cursor` could have produced the cursor from a name of this pattern."""
    try:
        [name] = _decode(cursor)
    except ValueError as error:
        raise InvalidInput.of_field(field, "is not a cursor of this list") from error
    if not isinstance(name, str) or not pattern.fullmatch(name) or encode_name_cursor(name) != cursor:
        raise InvalidInput.of_field(field, "is not a cursor of this list")
    return name


def _encode(parts: list[str] | list[int]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(parts)).decode().rstrip("=")


def _decode(cursor: str) -> list[Any]:
    if len(cursor) > _MAX_CHARS:
        raise ValueError("too long")
    try:
        parts = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, orjson.JSONDecodeError, ValueError) as error:
        raise ValueError("not a cursor") from error
    if not isinstance(parts, list):
        raise ValueError("not a cursor")  # noqa: TRY004 - callers handle one kind of error
    return parts
