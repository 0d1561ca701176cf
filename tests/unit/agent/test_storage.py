"""The stored events of an attempt replay as they were sent."""

import pytest
from fakes.agent.any_event import bodies, tool_results
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_agent.events.storage import decode_frames, encode_frames
from mesh_common.events.model import EventBody, MessageDelta, RunEvent, RunFinished, Usage
from mesh_common.ids import RunId, new_id

RUN = RunId(new_id())


@settings(max_examples=100, deadline=None)
@given(st.lists(bodies(tool_results()), max_size=8), st.integers(1, 9))
def test_events_come_back_as_they_were(event_bodies: list[EventBody], attempt: int) -> None:
    sent = [RunEvent(RUN, attempt, seq, body) for seq, body in enumerate(event_bodies, 1)]

    assert decode_frames(RUN, encode_frames(sent)) == sent


def test_an_attempt_without_events_is_kept_as_such() -> None:
    assert decode_frames(RUN, encode_frames([])) == []


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\u2028", "\x0b"])
def test_line_breaks_in_a_text_do_not_break_frames(line_break: str) -> None:
    sent = [RunEvent(RUN, 1, 1, MessageDelta("m", f"a{line_break}b")), RunEvent(RUN, 1, 2, MessageDelta("m", "c"))]

    assert decode_frames(RUN, encode_frames(sent)) == sent


def test_a_hundred_deltas_take_few_bytes() -> None:
    deltas = [RunEvent(RUN, 1, seq, MessageDelta(str(RUN), f"word{seq} and more ")) for seq in range(1, 101)]
    end = RunEvent(RUN, 1, 101, RunFinished("stop", Usage(10, 100, 1)))

    assert len(encode_frames([*deltas, end])) < 3_000
