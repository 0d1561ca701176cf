"""Only cursors that a list has given out are taken: each forged one is InvalidInput, never another error."""

import base64
from datetime import UTC, datetime
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_common.cursor import (
    decode_position_cursor,
    decode_time_cursor,
    encode_position_cursor,
    encode_time_cursor,
)
from mesh_common.errors import InvalidInput

ROW = UUID("0199f0c4-2222-7c3a-8f11-3a4b5c6d7e8f")
AT = datetime(2026, 12, 1, 9, 0, 0, 123456, tzinfo=UTC)


def _cursor(content: object) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(content)).decode().rstrip("=")


FORGED = [
    "",
    "=",
    "a",
    "ä",
    "\x00",
    "bad",
    "////",
    "A" * 201,
    _cursor({"a": 1}),
    _cursor(None),
    _cursor([]),
    _cursor([1, 2, 3]),
    _cursor(["x", str(ROW)]),
    _cursor(["0001-01-01T00:00:00+00:00", str(ROW)]),
    _cursor(["0001-01-01T00:00:00+14:00", str(ROW)]),
    _cursor(["1969-12-31T23:59:59+00:00", str(ROW)]),
    _cursor(["9999-12-31T23:59:59-12:00", str(ROW)]),
    _cursor(["2026-12-01T09:00:00", str(ROW)]),
    _cursor(["2026-12-01", str(ROW)]),
    _cursor(["2026-12-01T09:00:00Z", str(ROW)]),
    _cursor(["2026-12-01T09:00:00+00:00", "no id"]),
    _cursor(["2026-12-01T09:00:00+00:00", 7]),
    _cursor([1.5, True]),
    _cursor([True, False]),
    _cursor([-1, 1]),
    _cursor([2**63, 1]),
    _cursor(["1", "2"]),
    encode_time_cursor(AT, ROW) + "=",
    encode_time_cursor(AT, ROW) + "\n",
    encode_position_cursor(1, 2) + "%",
]


@pytest.mark.parametrize("cursor", [*FORGED, encode_position_cursor(1), encode_position_cursor(1, 2)])
def test_forged_time_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        decode_time_cursor(cursor)

    assert [fault.field for fault in refusal.value.fields] == ["cursor"]


@pytest.mark.parametrize("cursor", [*FORGED, encode_time_cursor(AT, ROW), encode_position_cursor(1, 2, 3)])
@pytest.mark.parametrize("count", [1, 2])
def test_forged_position_cursor_is_refused(cursor: str, count: int) -> None:
    with pytest.raises(InvalidInput) as refusal:
        decode_position_cursor(cursor, count)

    assert [fault.field for fault in refusal.value.fields] == ["cursor"]


@given(st.text(max_size=220))
def test_any_other_text_is_refused(cursor: str) -> None:
    for decode in (decode_time_cursor, lambda text: decode_position_cursor(text, 2)):
        try:
            decode(cursor)
        except InvalidInput:
            continue


@given(
    st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9999, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001
    st.uuids(),
)
def test_own_time_cursor_is_taken(at: datetime, row_id: UUID) -> None:
    assert decode_time_cursor(encode_time_cursor(at, row_id)) == (at, row_id)


@given(st.lists(st.integers(min_value=0, max_value=2**63 - 1), min_size=1, max_size=3))
def test_own_position_cursor_is_taken(positions: list[int]) -> None:
    assert decode_position_cursor(encode_position_cursor(*positions), len(positions)) == tuple(positions)
