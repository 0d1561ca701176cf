"""Every kind of event survives the wire unchanged; of a newer release's events, as much as possible."""

from typing import get_args
from uuid import UUID

import pytest
from fakes.agent.any_event import run_events, tool_results
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh.agent.v1 import agent_pb2 as pb
from mesh_common.events.model import (
    EventBody,
    KnownEvent,
    MemoryRecalled,
    RunError,
    RunEvent,
    RunFailed,
    RunInterrupted,
    ToolFinished,
    ToolResult,
    UnknownEvent,
    Usage,
)
from mesh_common.events.wire import dump_events, event_from_pb, event_pb, load_events
from mesh_common.ids import RunId, new_id

_ONEOF = pb.RunEvent.DESCRIPTOR.oneofs_by_name["event"]
_KINDS = [field.name for field in _ONEOF.fields]


@settings(max_examples=150, deadline=None)
@given(run_events(tool_results()))
def test_an_event_comes_out_as_it_went_in(event: RunEvent) -> None:
    wire = event_pb(event).SerializeToString()

    assert event_from_pb(pb.RunEvent.FromString(wire)) == event


@settings(max_examples=50, deadline=None)
@given(st.lists(run_events(tool_results()), max_size=5))
def test_stored_events_come_out_as_they_went_in_but_for_the_run(events: list[RunEvent]) -> None:
    run = RunId(new_id())

    loaded = load_events(run, dump_events(events))

    assert loaded == [RunEvent(run, event.attempt, event.seq, event.body) for event in events]


@pytest.mark.parametrize("flag", [True, False])
def test_flags_survive_the_wire(flag: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    bodies: list[EventBody] = [
        RunFailed(RunError("MODEL_TIMEOUT", "Try again.", is_retryable=flag), Usage()),
        ToolFinished(ToolResult("call", "calculate", "", "1", is_error=flag)),
        MemoryRecalled((), is_unavailable=flag),
    ]
    events = [RunEvent(RunId(new_id()), 1, 1, body) for body in bodies]

    assert [event_from_pb(event_pb(event)) for event in events] == events


@pytest.mark.parametrize("kind", _KINDS)
def test_every_case_of_the_proto_is_known_by_its_name(kind: str) -> None:
    """Uses an empty message of each case, so that a case that is added only to the proto fails here."""
    message = pb.RunEvent(run_id=str(new_id()), attempt=1, seq=1)
    getattr(message, kind).SetInParent()

    event = event_from_pb(message)

    assert event.body.type == kind
    assert event_pb(event).WhichOneof("event") == kind


@pytest.mark.parametrize("kind", [kind for kind in _KINDS if kind != "message_delta"])
def test_every_event_that_a_release_may_not_know_says_its_name_and_whether_it_is_the_end(kind: str) -> None:
    message = pb.RunEvent(run_id=str(new_id()), attempt=1, seq=1)
    getattr(message, kind).SetInParent()
    event = event_from_pb(message)

    encoded = event_pb(event)

    assert (encoded.type, encoded.is_terminal) == (kind, event.is_terminal)


def test_model_and_proto_have_the_same_kinds_under_the_same_names() -> None:
    ours = {(kind.type, kind.__name__) for kind in get_args(KnownEvent)}

    assert ours == {(field.name, field.message_type.name) for field in _ONEOF.fields}


@pytest.mark.parametrize("name", ["", "two\nlines", "Upper", "a" * 65, "a b"])
def test_event_without_a_name_that_fits_in_a_frame_is_called_unknown(name: str) -> None:
    event = event_from_pb(pb.RunEvent(run_id=str(new_id()), attempt=1, seq=1, type=name))

    assert isinstance(event.body, UnknownEvent)
    assert (event.body.type, event.is_terminal) == ("unknown", False)


def test_release_without_interrupts_sees_that_an_interrupted_run_has_ended() -> None:
    """It knows the event by its name and by this flag alone."""
    message = event_pb(RunEvent(RunId(UUID(int=1)), 1, 2, RunInterrupted((), Usage())))

    assert (message.type, message.is_terminal) == ("run_interrupted", True)
