"""Events: every kind the proto knows, as frames; positions; answers gathered from them."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh.agent.v1 import agent_pb2
from mesh_common.errors import Conflict, Internal, InvalidInput, Unavailable
from mesh_common.ids import RunId, new_id
from mesh_gateway import convert
from mesh_gateway.protocols.native.sse import frame
from mesh_gateway.runs.answer import AnswerBuilder
from mesh_gateway.runs.events import EventPosition

RUN = str(new_id())
KINDS = [field.name for field in agent_pb2.RunEvent.DESCRIPTOR.oneofs_by_name["event"].fields]
TERMINAL = {"run_finished", "run_failed", "run_cancelled"}


def _event(kind: str, seq: int = 1, attempt: int = 1, **fields: object) -> agent_pb2.RunEvent:
    event = agent_pb2.RunEvent(run_id=RUN, attempt=attempt, seq=seq)
    target = getattr(event, kind)
    target.SetInParent()
    target.MergeFrom(type(target)(**fields))
    return event


@pytest.mark.parametrize("kind", KINDS)
def test_every_event_of_the_proto_becomes_a_frame(kind: str) -> None:
    event = convert.event(_event(kind, seq=3, attempt=2))

    lines = frame(event).decode().split("\n")

    assert lines[:2] == [f"id: {RUN}:2:3", f"event: {kind}"]
    assert lines[2].startswith(f'data: {{"type":"{kind}","seq":3')
    assert lines[3:] == ["", ""]
    assert event.is_terminal == (kind in TERMINAL)


@given(st.text())
def test_text_never_breaks_out_of_its_frame(text: str) -> None:
    raw = frame(convert.event(_event("message_delta", text=text.encode("utf-8", "replace").decode())))

    assert raw.count(b"\n") == 4
    assert orjson.loads(raw.split(b"data: ")[1])["type"] == "message_delta"


def test_arguments_of_a_tool_are_an_object_or_the_text_the_model_wrote() -> None:
    good = convert.event(_event("tool_started", arguments_json='{"a": 1}'))
    bad = convert.event(_event("tool_started", arguments_json='{"a": '))

    assert (good.fields["arguments"], bad.fields["arguments"]) == ({"a": 1}, '{"a": ')


def test_event_of_a_newer_agent_is_an_error() -> None:
    with pytest.raises(Internal):
        convert.event(agent_pb2.RunEvent(run_id=RUN, attempt=1, seq=1))


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_position_is_read_as_it_was_written(attempt: int, seq: int) -> None:
    position = EventPosition(RunId(new_id()), attempt, seq)

    assert EventPosition.parse(str(position), "Last-Event-ID") == position


@given(st.text(max_size=60))
def test_any_other_text_is_no_position(text: str) -> None:
    with pytest.raises(InvalidInput):
        EventPosition.parse(text, "Last-Event-ID")


def _answer(*events: agent_pb2.RunEvent) -> AnswerBuilder:
    builder = AnswerBuilder(RUN, "t")
    for event in events:
        builder.add(convert.event(event))
    return builder


def test_answer_has_the_last_message_of_the_current_attempt() -> None:
    recalled = agent_pb2.RecalledMemory(id="1", text="old", similarity=0.1)
    builder = _answer(
        _event("run_started", thread_id="t"),
        _event("memory_recalled", 2, memories=[recalled]),
        _event("message_completed", 3, message_id="m1", content="void"),
        _event("run_restarted", 1, 2, thread_id="t"),
        _event("memory_recalled", 2, 2, is_unavailable=True),
        _event("message_completed", 3, 2, message_id="m2", content="Let me look."),
        _event("message_completed", 4, 2, message_id="m3", content="Paris."),
        _event("run_finished", 5, 2, finish_reason="stop"),
    )

    answer = builder.answer()

    assert (answer.thread_id, answer.message.id, answer.message.content) == ("t", "m3", "Paris.")
    assert (answer.memories, answer.is_memory_unavailable) == ([], True)


@pytest.mark.parametrize(
    ("event", "error", "reason", "run_status"),
    [
        (_event("run_cancelled"), Conflict, "RUN_CANCELLED", "cancelled"),
        (_event("run_finished"), Internal, "EMPTY_ANSWER", "succeeded"),
        (_event("run_started"), Unavailable, "RUN_NOT_FOLLOWED", None),
        (_event("run_failed", error=agent_pb2.RunError(reason="X", is_retryable=True)), Unavailable, "X", "failed"),
        (_event("run_failed", error=agent_pb2.RunError(reason="Y")), Internal, "Y", "failed"),
    ],
)
def test_run_without_an_answer_is_its_error(
    event: agent_pb2.RunEvent, error: type[Exception], reason: str, run_status: str | None
) -> None:
    builder = _answer(event)

    with pytest.raises(error) as raised:
        builder.answer()

    assert getattr(raised.value, "reason", None) == reason
    assert builder.run_status == run_status
