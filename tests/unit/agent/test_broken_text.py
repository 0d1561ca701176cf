"""Characters that a server cut in half."""

import itertools
import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_agent.llm.broken_text import TextJoiner, loads, repaired


def joined(pieces: Sequence[str]) -> str:
    joiner = TextJoiner()
    return "".join(map(joiner.add, pieces)) + joiner.close()


def cut(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = sorted({0, len(data), *(place % (len(data) + 1) for place in cuts)})
    return [data[start:stop] for start, stop in itertools.pairwise(places)]


# What a JSON string holds without escapes.
_TEXT = st.text(st.characters(codec="utf-8", min_codepoint=32, exclude_characters='"\\'), max_size=8)
_CUTS = st.lists(st.integers(0, 40), max_size=12)


@given(_TEXT, _CUTS)
def test_utf_8_may_be_cut_anywhere(text: str, cuts: Sequence[int]) -> None:
    """Each piece is the string of a chunk of its own, with raw bytes inside."""
    assert joined([loads(b'"' + piece + b'"') for piece in cut(text.encode(), cuts)]) == text


@given(_TEXT, _CUTS)
def test_surrogate_pairs_may_be_cut_anywhere(text: str, cuts: Sequence[int]) -> None:
    data = text.encode("utf-16-le")
    units = len(data) // 2
    places = sorted({0, units, *(place % (units + 1) for place in cuts)})
    pieces = [data[2 * start : 2 * stop] for start, stop in itertools.pairwise(places)]

    assert joined([piece.decode("utf-16-le", "surrogatepass") for piece in pieces]) == text


@given(st.lists(st.text(max_size=3), max_size=6), st.lists(st.binary(max_size=4), max_size=4))
def test_anything_becomes_text_that_can_be_stored(texts: list[str], broken: list[bytes]) -> None:
    pieces = [*texts, *(json.loads('"\\ud83d"') + data.decode("utf-8", "mesh_escape") for data in broken)]

    text = joined(pieces)

    assert text.encode().decode() == text
    assert "\x00" not in text
    assert repaired("".join(pieces)).encode().decode() == repaired("".join(pieces))


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["a\ud83d", "b"], "a\ufffdb"),
        (["\ud83d"], "\ufffd"),
        (["\ud83d", "\ud83d", "\ude00"], "\ufffd\U0001f600"),
        (["\ude00\ud83d"], "\ufffd\ufffd"),
        (["\ud83d", "", "\ude00"], "\U0001f600"),
        (["a\x00", "b"], "a\ufffdb"),
        (["\U0010ffff", "\udfff"], "\U0010ffff\ufffd"),
    ],
)
def test_half_without_its_other_half_is_replaced(pieces: list[str], expected: str) -> None:
    assert joined(pieces) == expected


def test_text_is_held_back_no_longer_than_needed() -> None:
    joiner = TextJoiner()

    assert [joiner.add("Nice \ud83d"), joiner.add("\ude00 day"), joiner.close()] == ["Nice ", "\U0001f600 day", ""]


@pytest.mark.parametrize("data", [b'{"a": NaN}', b'{"a": -Infinity}', b'{"a": "\xff"}', b'{"a": 1' + b"0" * 400 + b"}"])
def test_json_of_servers_is_lenient(data: bytes) -> None:
    assert set(loads(data)) == {"a"}


@pytest.mark.parametrize("data", [b"", b"{", b"{}{}", b"[" * 100_000, b"{'a': 1}"])
def test_what_is_no_json_is_said_not_to_be(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        loads(data)
