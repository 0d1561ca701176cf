"""Events as frames, positions in streams, and answers collected from events."""

import re
from pathlib import Path
from typing import get_args

import orjson
import pytest
from fakes.agent.any_event import run_events, tool_results
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from mesh.agent.v1 import agent_pb2
from mesh_common.errors import Conflict, Internal, InvalidInput, TooLarge, Unavailable
from mesh_common.events import model
from mesh_common.events.model import EventBody, KnownEvent, RunError, RunEvent, UnknownEvent, Usage
from mesh_common.ids import RunId, new_id
from mesh_gateway.protocols.native.events import ENDS, NAMES, event_data, event_schemas
from mesh_gateway.protocols.native.sse import SSEEncoder
from mesh_gateway.runs.answer import AnswerBuilder
from mesh_gateway.runs.position import EventPosition

RUN = RunId(new_id())
frame = SSEEncoder().encode
GUIDE = Path(__file__).parents[3] / "docs/api/runs.md"


def _event(body: EventBody, seq: int = 1, attempt: int = 1) -> RunEvent:
    return RunEvent(RUN, attempt, seq, body)


def _data(raw: bytes) -> object:
    return orjson.loads(raw.split(b"data: ")[1])


@settings(max_examples=150, deadline=None)
@given(run_events(tool_results()))
def test_every_event_becomes_a_frame_as_its_schema_says(event: RunEvent) -> None:
    raw = frame(event)

    lines = raw.split(b"\n")
    position = f"{event.run_id}:{event.attempt}:{event.seq}"
    assert lines[:2] == [f"id: {position}".encode(), f"event: {event.body.type}".encode()]
    assert lines[2].startswith(f'data: {{"type":"{event.body.type}","seq":{event.seq}'.encode())
    assert lines[3:] == [b"", b""]
    schemas = {"components": {"schemas": event_schemas()}}
    Draft202012Validator({"$ref": "#/components/schemas/RunEvent", **schemas}).validate(_data(raw))


def test_schemas_name_all_fields_and_require_them() -> None:
    schemas = event_schemas()

    for reference in schemas["RunEvent"]["discriminator"]["mapping"].values():
        schema = schemas[reference.rpartition("/")[2]]
        assert set(schema["required"]) == set(schema["properties"])
        assert schema["description"]


def test_names_are_those_of_the_model_the_proto_and_the_guide() -> None:
    of_the_model = {kind.type for kind in get_args(KnownEvent)}
    of_the_proto = {field.name for field in agent_pb2.RunEvent.DESCRIPTOR.oneofs_by_name["event"].fields}
    rows = [
        line
        for line in GUIDE.read_text().splitlines()
        if re.match(r"\| `(run|message|memory|member|tool|step|custom)", line)
    ]
    of_the_guide = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row.split("|")[1])}

    assert set(NAMES) | set(ENDS) == of_the_model == of_the_proto == of_the_guide
    assert set(ENDS) == {kind.type for kind in get_args(KnownEvent) if kind.is_terminal}


@given(st.text(st.characters(codec="utf-8")))
def test_text_never_breaks_out_of_its_frame(text: str) -> None:
    raw = frame(_event(model.MessageDelta("m", text)))

    assert raw.count(b"\n") == 4
    assert _data(raw) == {"type": "message_delta", "seq": 1, "message_id": "m", "text": text}


def test_arguments_of_a_tool_are_an_object_or_the_text_the_model_wrote() -> None:
    good = event_data(_event(model.ToolStarted("c", "t", '{"a": 1}')))
    bad = event_data(_event(model.ToolStarted("c", "t", '{"a": ')))

    assert [dict(one)["arguments"] for one in (good, bad)] == [{"a": 1}, '{"a": ']


def test_tool_result_does_not_repeat_the_arguments() -> None:
    result = model.ToolResult("c", "calculate", '{"a": 1}', "2", is_error=False)

    assert event_data(_event(model.ToolFinished(result))) == {
        "type": "tool_finished",
        "seq": 1,
        "call_id": "c",
        "tool": "calculate",
        "content": "2",
        "is_error": False,
        "is_unknown": False,
        "agent": "",
    }


def test_event_of_a_newer_agent_is_its_type_and_seq() -> None:
    raw = frame(_event(UnknownEvent("plan_made", is_terminal=False, wire=b""), seq=4))

    assert raw == f'id: {RUN}:1:4\nevent: plan_made\ndata: {{"type":"plan_made","seq":4}}\n\n'.encode()


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_position_is_read_as_it_was_written(attempt: int, seq: int) -> None:
    position = EventPosition(RunId(new_id()), attempt, seq)

    assert EventPosition.parse(str(position), "Last-Event-ID") == position


@given(st.text(max_size=60))
def test_any_other_text_is_no_position(text: str) -> None:
    with pytest.raises(InvalidInput):
        EventPosition.parse(text, "Last-Event-ID")


def _answer(*events: RunEvent) -> AnswerBuilder:
    builder = AnswerBuilder(str(RUN), "t")
    for event in events:
        builder.add(event)
    return builder


def test_answer_has_the_last_message_of_the_current_attempt() -> None:
    recalled = model.RecalledMemory("1", "old", 0.1)
    builder = _answer(
        _event(model.RunStarted("t")),
        _event(model.MemoryRecalled((recalled,), is_unavailable=False), 2),
        _event(model.MessageCompleted("m1", "void", "sim"), 3),
        _event(model.RunRestarted("t", ()), 1, 2),
        _event(model.MemoryRecalled((), is_unavailable=True), 2, 2),
        _event(model.MessageCompleted("m2", "Let me look.", "sim"), 3, 2),
        _event(UnknownEvent("plan_made", is_terminal=False, wire=b""), 4, 2),
        _event(model.MessageCompleted("m3", "Paris.", "sim"), 5, 2),
        _event(model.RunFinished("stop", Usage(12, 3, 45)), 6, 2),
    )

    answer = builder.answer()

    assert (answer.thread_id, answer.message_id, answer.content) == ("t", "m3", "Paris.")
    assert (answer.memories, answer.is_memory_unavailable) == ((), True)
    assert answer.usage == Usage(12, 3, 45)


@pytest.mark.parametrize(
    ("body", "error", "reason", "run_status"),
    [
        (model.RunCancelled(Usage()), Conflict, "RUN_CANCELLED", "cancelled"),
        (model.RunFinished("stop", Usage()), Internal, "EMPTY_ANSWER", "succeeded"),
        (model.RunStarted("t"), Unavailable, "RUN_NOT_FOLLOWED", None),
        (model.RunFailed(RunError("X", "", is_retryable=True), Usage()), Unavailable, "X", "failed"),
        (model.RunFailed(RunError("Y", "", is_retryable=False), Usage()), Internal, "Y", "failed"),
        (
            model.RunFailed(RunError("CONTEXT_TOO_LONG", "", is_retryable=False), Usage()),
            TooLarge,
            "CONTEXT_TOO_LONG",
            "failed",
        ),
        (UnknownEvent("run_paused", is_terminal=True, wire=b""), Internal, "UNKNOWN_END", "unknown"),
    ],
)
def test_run_without_an_answer_is_its_error(
    body: EventBody, error: type[Exception], reason: str, run_status: str | None
) -> None:
    builder = _answer(_event(body))

    with pytest.raises(error) as raised:
        builder.answer()

    assert getattr(raised.value, "reason", None) == reason
    assert builder.run_status == run_status
