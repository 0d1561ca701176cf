"""Server-sent events as the HTML standard defines them."""

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mesh_agent.llm.openai_compatible.sse import EventParser, NamedData


def events(text: bytes, cuts: Sequence[int] = ()) -> list[tuple[bytes, bytes]]:
    """Names and data of all events in the text, which is received in pieces."""
    parser = EventParser()
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    found = [event for start, stop in itertools.pairwise(places) for event in parser.feed(text[start:stop])]
    found += parser.close()
    return [(event.name if isinstance(event, NamedData) else b"", bytes(event)) for event in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [b"a"]),
        (b"data:a\r\n\r\ndata: b\r\rdata:  c\n\n", [b"a", b"b", b" c"]),
        (b"data: a\r\r\ndata: b\n\n", [b"a", b"b"]),
        (b"data: a\rdata: b\r\ndata: c\n\n", [b"a\nb\nc"]),
        (b"data\n\ndata:\n\ndata: \n\n", []),
        (b"data\ndata\n\n", [b"\n"]),
        (b": comment\n:\n\ndata: a\n:\ndata: b\n\n", [b"a\nb"]),
        (b"id: 7\nretry: 3000\nunknown: x\ndata: a\n\n", [b"a"]),
        (b"retry: 3000\n\nid: 7\n\n", []),
        (b" data: a\nDATA: b\ndatax: c\n\n", []),
        (b"\n\n\ndata: a\n\n\n\n\ndata: b\n\n\n", [b"a", b"b"]),
        (b"data: a", [b"a"]),
        (b"data: a\n", [b"a"]),
        (b"data: a\r", [b"a"]),
        (b"", []),
    ],
)
def test_event_stream_is_read(text: bytes, expected: list[bytes]) -> None:
    everywhere = range(len(text))

    assert events(text) == events(text, everywhere) == [(b"", data) for data in expected]


def test_names_are_read() -> None:
    text = b"event: error\ndata: a\n\ndata: b\n\nevent:ping\nevent: pong\ndata: c\n\nevent: x\n\ndata: d\n\n"

    assert events(text) == [(b"error", b"a"), (b"", b"b"), (b"pong", b"c"), (b"", b"d")]


_LINES = st.sampled_from(
    [b"", b"", b"data: a", b"data:b", b"data", b"data: ", b"event: e", b": c", b"id: 1", b"x", b"data: \xef\xbb\xbf"]
)


@given(
    st.lists(st.tuples(_LINES, st.sampled_from([b"\n", b"\r", b"\r\n"])), max_size=12),
    st.booleans(),
    st.lists(st.integers(0, 200), max_size=8),
)
@example([(b"data: a", b"\r\n"), (b"", b"\r\n"), (b"", b"\n"), (b"data:b", b"\r")], True, range(200))  # noqa: FBT003
def test_any_stream_is_read_as_line_by_line(
    lines: list[tuple[bytes, bytes]],
    has_bom: bool,  # noqa: FBT001 - a parameter of Hypothesis
    cuts: Sequence[int],
) -> None:
    text = (b"\xef\xbb\xbf" if has_bom else b"") + b"".join(line + end for line, end in lines)

    assert events(text, cuts) == _by_the_standard(text)


def _by_the_standard(text: bytes) -> list[tuple[bytes, bytes]]:
    """The standard's own algorithm, for a text that has arrived."""
    found: list[tuple[bytes, bytes]] = []
    name, data = b"", b""
    unified = text.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    for line in [*unified.split(b"\n"), b""]:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if line == b"":
            if data not in (b"", b"\n"):
                found.append((name, data.removesuffix(b"\n")))
            name, data = b"", b""
        elif field == b"data":
            data += value + b"\n"
        elif field == b"event":
            name = value
    return found
