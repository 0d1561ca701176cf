"""Events cross the wire whole, all kinds of them."""

from dataclasses import replace
from typing import get_args

import pytest
from fakes.agent.any_event import run_events, tool_results
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh.agent.v1 import agent_pb2 as pb
from mesh_agent.convert_events import SharedEvents, event_from_pb, event_pb
from mesh_agent.domain import RunError, ToolResult, Usage
from mesh_agent.events.model import EventBody, MemoryRecalled, MessageDelta, RunEvent, RunFailed, Terminal, ToolFinished
from mesh_common.ids import RunId, new_id

_ONEOF = pb.RunEvent.DESCRIPTOR.oneofs_by_name["event"]
_KINDS = [field.name for field in _ONEOF.fields]
_TERMINAL = {"run_finished", "run_failed", "run_cancelled"}


@settings(max_examples=150, deadline=None)
@given(run_events(tool_results(arguments_json=st.just(""))))
def test_an_event_comes_out_as_it_went_in(event: RunEvent) -> None:
    wire = event_pb(event).SerializeToString()

    assert event_from_pb(pb.RunEvent.FromString(wire)) == event


@pytest.mark.parametrize("flag", [True, False])
def test_flags_are_told_as_they_are(flag: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    bodies: list[EventBody] = [
        RunFailed(RunError("MODEL_TIMEOUT", "Try again.", is_retryable=flag), Usage()),
        ToolFinished(ToolResult("call", "calculate", "", "1", is_error=flag)),
        MemoryRecalled((), is_unavailable=flag),
    ]
    events = [RunEvent(RunId(new_id()), 1, 1, body) for body in bodies]

    assert [event_from_pb(event_pb(event)) for event in events] == events


def test_arguments_are_told_when_a_tool_starts_and_not_again() -> None:
    result = ToolResult("call", "calculate", '{"expression":"1"}', "1", is_error=False)
    event = RunEvent(RunId(new_id()), 1, 1, ToolFinished(result))

    assert event_from_pb(event_pb(event)).body == ToolFinished(replace(result, arguments_json=""))


@pytest.mark.parametrize("kind", _KINDS)
def test_every_case_of_the_proto_has_one_here(kind: str) -> None:
    """Empty messages of each case: a case that is added to the proto and forgotten fails here."""
    message = pb.RunEvent(run_id=str(new_id()), attempt=1, seq=1)
    getattr(message, kind).SetInParent()

    event = event_from_pb(message)

    assert event_pb(event).WhichOneof("event") == kind
    assert event.is_terminal == (kind in _TERMINAL)


def test_domain_and_proto_have_the_same_kinds_under_the_same_names() -> None:
    ours = {kind.__name__ for kind in get_args(EventBody)}
    theirs = {field.message_type.name for field in _ONEOF.fields}

    assert ours == theirs
    assert {kind.__name__ for kind in get_args(Terminal)} == {"RunFinished", "RunFailed", "RunCancelled"}


def test_an_event_without_a_body_is_refused() -> None:
    with pytest.raises(ValueError, match="without a body"):
        event_from_pb(pb.RunEvent(run_id=str(new_id()), attempt=1, seq=1))


def _delta(text: str) -> RunEvent:
    return RunEvent(RunId(new_id()), 1, 1, MessageDelta("m", text))


def test_shared_events_come_out_in_order_with_those_who_left() -> None:
    events = [_delta("a"), _delta("b")]
    gone = RunId(new_id())
    message = SharedEvents()
    assert message.is_empty

    taken = [message.add(event) for event in events]
    message.leave(gone)

    assert (taken, message.is_empty) == ([True, True], False)
    assert [event_from_pb(event) for event in message.pb.events] == events
    assert message.pb.left_run_ids == [str(gone)]


def test_shared_message_takes_no_more_than_grpc_does() -> None:
    message = SharedEvents()

    taken = [message.add(_delta("x" * 100_000)) for _ in range(5)]

    assert taken == [True, True, False, False, False]
    assert message.pb.ByteSize() < 300_000


def test_event_that_fits_into_no_shared_message_is_refused() -> None:
    with pytest.raises(ValueError, match="larger"):
        SharedEvents().add(_delta("x" * 300_000))
