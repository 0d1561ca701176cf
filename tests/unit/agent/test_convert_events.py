"""One message with events of many runs."""

import pytest
from mesh_agent.convert_events import SharedEvents
from mesh_common.events.model import MessageDelta, RunEvent
from mesh_common.events.wire import event_from_pb
from mesh_common.ids import RunId, new_id


def _delta(text: str) -> RunEvent:
    return RunEvent(RunId(new_id()), 1, 1, MessageDelta("m", text))


def test_shared_events_come_out_in_order_with_those_who_left() -> None:
    events = [_delta("a"), _delta("b")]
    left = RunId(new_id())
    message = SharedEvents()
    assert message.is_empty

    taken = [message.add(event) for event in events]
    message.leave(left)

    assert (taken, message.is_empty) == ([True, True], False)
    assert [event_from_pb(event) for event in message.pb.events] == events
    assert message.pb.left_run_ids == [str(left)]


def test_shared_message_takes_no_more_than_grpc_does() -> None:
    message = SharedEvents()

    taken = [message.add(_delta("x" * 100_000)) for _ in range(5)]

    assert taken == [True, True, False, False, False]
    assert message.pb.ByteSize() < 300_000


def test_event_that_fits_into_no_shared_message_is_refused() -> None:
    with pytest.raises(ValueError, match="larger"):
        SharedEvents().add(_delta("x" * 300_000))
