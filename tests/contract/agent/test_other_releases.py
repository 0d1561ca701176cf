"""This release's agent with gateways and stored data of the previous release, and next to a newer agent.

release_0_1_0.json was written by the code of release 0.1.0 (commit a3e2a5a).
"""

import zlib
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import grpc
import orjson
import pytest
from mesh.agent.v1 import agent_pb2
from mesh_agent.domain.runs import Multitask, OnDisconnect, RunInput
from mesh_agent.events.storage import decode_frames, encode_frames
from mesh_agent.usecases.start_run import request_digest
from mesh_agent.usecases.threads import request_hash
from mesh_common.database.postgres import Database
from mesh_common.errors import InvalidInput
from mesh_common.events.model import (
    EventBody,
    MemoryRecalled,
    MessageCompleted,
    MessageDelta,
    RecalledMemory,
    RunCancelled,
    RunError,
    RunEvent,
    RunFailed,
    RunFinished,
    RunRestarted,
    RunStarted,
    ToolFinished,
    ToolResult,
    ToolStarted,
    UnknownEvent,
    Usage,
)
from mesh_common.events.wire import event_from_pb, event_pb
from mesh_common.grpc.client import ServerStream, open_channel
from mesh_common.ids import RunId, ThreadId, new_id
from sqlalchemy import text
from support.agent import AgentUnderTest, some_user
from support.newer_release import newer_release
from support.subjects import personal

STORED: Final[dict[str, str]] = orjson.loads((Path(__file__).parent / "release_0_1_0.json").read_bytes())
RUN = RunId(UUID("0199f0c4-4444-7c3a-8f11-3a4b5c6d7e8f"))
THREAD = ThreadId(UUID("0199f0c4-2222-7c3a-8f11-3a4b5c6d7e8f"))
TOLD: Final[dict[str, tuple[int, tuple[EventBody, ...]]]] = {
    "finished": (
        2,
        (
            RunRestarted(
                "thread",
                (
                    ToolResult("c1", "calculate", '{"expression":"1+1"}', "2", is_error=False),
                    ToolResult("c2", "send", "{}", "Nobody knows.", is_error=True, is_unknown=True),
                ),
            ),
            MemoryRecalled((RecalledMemory("m1", "Lives in Lyon.", 0.5),), is_unavailable=False),
            MessageDelta("m", "a\nb\u2028c \uc11c\uc6b8 "),
            ToolStarted("c3", "calculate", '{"expression":"2+2"}'),
            ToolFinished(ToolResult("c3", "calculate", '{"expression":"2+2"}', "4", is_error=False)),
            MessageDelta("m", "Four."),
            MessageCompleted("m", "a\nb\u2028c \uc11c\uc6b8 Four.", "sim-large"),
            RunFinished("stop", Usage(12, 3, 45)),
        ),
    ),
    "failed": (
        1,
        (
            RunStarted("thread"),
            MemoryRecalled((), is_unavailable=True),
            RunFailed(RunError("MODEL_TIMEOUT", "The model took too long.", is_retryable=True), Usage(12, 0, 4)),
        ),
    ),
    "cancelled": (1, (RunCancelled(Usage()),)),
}


def _stored_events(name: str, run_id: RunId) -> list[RunEvent]:
    attempt, bodies = TOLD[name]
    return [RunEvent(run_id, attempt, seq, body) for seq, body in enumerate(bodies, 1)]


@pytest.mark.parametrize("name", TOLD)
def test_frames_of_the_release_before_are_read(name: str) -> None:
    assert decode_frames(RUN, b64decode(STORED[name])) == _stored_events(name, RUN)


async def test_frames_of_the_release_before_are_replayed(agent: AgentUnderTest, agent_database: Database) -> None:
    user_id = some_user()
    turn = await agent.run(user_id, "Hello")
    async with agent_database.as_subject(personal(user_id)) as connection:
        await connection.execute(
            text("UPDATE agent.runs SET frames = :frames"), {"frames": b64decode(STORED["finished"])}
        )

    events = await agent.follow(user_id, turn.run_id)

    assert [event_from_pb(event) for event in events] == _stored_events("finished", RunId(UUID(turn.run_id)))


def test_reader_of_the_release_before_takes_frames_for_those_of_a_newer_one() -> None:
    """It reads lines of [attempt, seq, kind, fields] and raises Unavailable at an unknown kind, so that the follower
    tries another replica."""
    frames = encode_frames(_stored_events("finished", RUN))

    first_line = zlib.decompress(frames).split(b"\n")[0]

    attempt, seq, kind, fields = orjson.loads(first_line)
    assert (attempt, seq, fields) == (0, 0, {})
    assert kind not in {type(event.body).__name__ for name in TOLD for event in _stored_events(name, RUN)}


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("hash_of_plain_run", RunInput(RUN, THREAD, "Hi")),
        (
            "hash_of_run_with_all_fields",
            RunInput(
                RUN,
                None,
                "Hi",
                "sim-large",
                {"b": "2", "a": "1"},
                Multitask.REJECT,
                OnDisconnect.CANCEL,
                "key",
            ),
        ),
    ],
)
def test_request_has_the_hash_that_the_release_before_stored(name: str, run: RunInput) -> None:
    assert request_digest(run).hex() == STORED[name]


def test_new_thread_has_the_hash_that_the_release_before_stored() -> None:
    assert request_hash(title="", metadata={}).hex() == STORED["hash_of_thread"]


@pytest.mark.parametrize("not_given", [None, "", (), {}, False])
def test_field_that_a_release_adds_changes_the_hash_only_where_it_is_given(not_given: object) -> None:
    before = request_hash(message="Hi")

    assert request_hash(message="Hi", added=not_given) == before
    assert request_hash(message="Hi", added="x") != before


def _newer_event(name: str, **fields: Any) -> Any:
    newer = newer_release()
    kind = "".join(part.capitalize() for part in name.split("_"))
    values = {"run_id": str(RUN), "attempt": 1, "seq": 4, "type": name, name: newer.message(kind)(**fields)}
    return newer.message("RunEvent")(**values, is_terminal=name == "run_paused")


@pytest.mark.parametrize(
    "event",
    [lambda: _newer_event("plan_made", steps=["look"]), lambda: _newer_event("run_paused", question="May I?")],
)
def test_event_of_a_newer_owner_is_relayed_whole_and_ends_what_it_ends(event: Any) -> None:
    sent = event()

    relayed = event_from_pb(agent_pb2.RunEvent.FromString(sent.SerializeToString()))

    assert isinstance(relayed.body, UnknownEvent)
    assert (relayed.body.type, relayed.is_terminal) == (sent.type, sent.is_terminal)
    assert newer_release().message("RunEvent").FromString(event_pb(relayed).SerializeToString()) == sent


def test_stored_event_of_a_newer_release_is_replayed_whole() -> None:
    newer = newer_release()
    sent = _newer_event("plan_made", steps=["look"])
    in_column = newer.message("RunEvent").FromString(sent.SerializeToString())
    in_column.ClearField("run_id")
    of_ours = zlib.decompress(encode_frames([]))
    frames = zlib.compress(of_ours + newer.message("StoredEvents")(events=[in_column]).SerializeToString())

    [event] = decode_frames(RUN, frames)

    assert (event.run_id, event.seq, event.body.type) == (RUN, 4, "plan_made")
    assert newer.message("RunEvent").FromString(event_pb(event).SerializeToString()) == sent


@asynccontextmanager
async def _newer_gateway_starts(agent: AgentUnderTest, **fields: Any) -> AsyncIterator[ServerStream[Any]]:
    newer = newer_release()
    async with open_channel(f"ipv4:127.0.0.1:{agent.settings.grpc_port}") as channel:
        method: grpc.aio.UnaryStreamMultiCallable[Any, Any] = channel.unary_stream(
            "/mesh.agent.v1.AgentService/StartRun",
            request_serializer=newer.message("StartRunRequest").SerializeToString,
            response_deserializer=newer.message("StartRunResponse").FromString,
        )
        request = newer.message("StartRunRequest")(run_id=str(new_id()), message="Hello", **fields)
        async with agent.calls.stream(method, request, timeout_s=20, subject=personal(some_user())) as stream:
            yield stream


async def test_newer_gateway_is_served(agent: AgentUnderTest) -> None:
    async with _newer_gateway_starts(agent, tone="formal", is_acknowledged_by_message=True) as stream:
        responses = [response async for response in stream]

    events = [response.event for response in responses[1:]]
    assert responses[0].HasField("acknowledged")
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert events[-1].WhichOneof("event") == "run_finished"


@pytest.mark.parametrize(
    ("field", "enum", "value"),
    [("multitask", "Multitask", "MULTITASK_MERGE"), ("on_disconnect", "OnDisconnect", "ON_DISCONNECT_PAUSE")],
)
async def test_what_only_a_newer_agent_can_do_is_refused_and_not_done_otherwise(
    agent: AgentUnderTest, field: str, enum: str, value: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        async with _newer_gateway_starts(agent, **{field: newer_release().value(enum, value)}) as stream:
            [_ async for _ in stream]

    assert [fault.field for fault in refused.value.fields] == [field]


@pytest.mark.parametrize("asks", [False, True], ids=["release 0.1.0", "this release"])
async def test_gateway_gets_a_message_that_acknowledges_only_if_it_asks(agent: AgentUnderTest, *, asks: bool) -> None:
    """A gateway of release 0.1.0 takes such a message for an unknown event, and so for the end of the stream."""
    user_id, run_id = some_user(), str(new_id())
    start = agent_pb2.StartRunRequest(run_id=run_id, message="Hello", is_acknowledged_by_message=asks)
    follow = agent_pb2.FollowRunRequest(run_id=run_id, is_acknowledged_by_message=asks)

    async with agent.calls.stream(agent.stub.StartRun, start, timeout_s=20, subject=personal(user_id)) as stream:
        start_metadata = await stream.initial_metadata()
        started = [response async for response in stream]
    async with agent.calls.stream(agent.stub.FollowRun, follow, timeout_s=20, subject=personal(user_id)) as stream:
        follow_metadata = await stream.initial_metadata()
        followed = [response async for response in stream]

    thread_id = start_metadata["mesh-thread-id"]
    assert start_metadata["mesh-run-id"] == follow_metadata["mesh-run-id"] == run_id
    assert follow_metadata["mesh-run-has-ended"] == "true"
    acknowledged = agent_pb2.RunAcknowledged(run_id=run_id, thread_id=thread_id)
    ended = agent_pb2.RunAcknowledged(run_id=run_id, thread_id=thread_id, has_ended=True)
    assert [one.acknowledged for one in started if one.HasField("acknowledged")] == [acknowledged] * asks
    assert [one.acknowledged for one in followed if one.HasField("acknowledged")] == [ended] * asks
    assert [one.event.seq for one in started[asks:]] == list(range(1, len(started[asks:]) + 1))
    assert [one.event for one in followed[asks:]] == [one.event for one in started[asks:]]
