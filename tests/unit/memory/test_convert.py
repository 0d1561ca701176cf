import base64
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from mesh.memory.v1 import memory_pb2 as pb
from mesh_common.errors import InvalidInput
from mesh_common.ids import new_id
from mesh_memory import convert
from mesh_memory.domain import Memory, MemoryId, Origin, Page, Position, Source, Speaker

RUN, THREAD = str(new_id()), str(new_id())
USER = pb.TURN_ROLE_USER


def _turn(*messages: pb.TurnMessage, run_id: str = RUN, thread_id: str = THREAD) -> pb.RememberRequest:
    return pb.RememberRequest(run_id=run_id, thread_id=thread_id, messages=messages)


def _said(content: str) -> pb.TurnMessage:
    return pb.TurnMessage(role=USER, content=content)


def test_a_turn_keeps_its_order_and_speakers() -> None:
    request = _turn(_said("I like tea."), pb.TurnMessage(role=pb.TURN_ROLE_ASSISTANT, content=""))

    turn = convert.turn(request)

    assert (str(turn.run_id), str(turn.thread_id)) == (RUN, THREAD)
    assert [(message.speaker, message.content) for message in turn.messages] == [
        (Speaker.USER, "I like tea."),
        (Speaker.ASSISTANT, ""),
    ]


def test_a_message_knows_where_and_under_which_generation_it_was_said() -> None:
    run_id, message_id = new_id(), new_id()
    message = pb.TurnMessage(
        role=USER, content="I like tea.", run_id=str(run_id), message_id=str(message_id), forget_generation=0
    )
    message.said_at.FromDatetime(datetime(2026, 12, 1, 9, tzinfo=UTC))

    [given, older] = convert.turn(_turn(message, _said("I like tea."))).messages

    assert given.source == Source(run_id, UUID(THREAD), message_id, datetime(2026, 12, 1, 9, tzinfo=UTC))
    assert given.forget_generation == 0
    assert older.source == Source(UUID(RUN), UUID(THREAD))
    assert older.forget_generation is None


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (_turn(), "messages"),
        (_turn(*[_said("x")] * 51), "messages"),
        (_turn(_said("x"), run_id="42"), "run_id"),
        (_turn(_said("x"), thread_id=""), "thread_id"),
        (_turn(_said("x"), pb.TurnMessage(content="x")), "messages[1].role"),
        (_turn(pb.TurnMessage(role=9, content="x")), "messages[0].role"),  # type: ignore[arg-type]  # a later release's
        (_turn(_said("x" * 32_001)), "messages[0].content"),
        (_turn(_said("a\x00b")), "messages[0].content"),
        (_turn(pb.TurnMessage(role=USER, content="x", run_id="42")), "messages[0].run_id"),
        (_turn(pb.TurnMessage(role=USER, content="x", message_id="42")), "messages[0].message_id"),
        (_turn(pb.TurnMessage(role=USER, content="x", said_at=Timestamp(seconds=10**15))), "messages[0].said_at"),
    ],
)
def test_a_bad_turn_is_refused_by_field(request_: pb.RememberRequest, field: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        convert.turn(request_)

    assert raised.value.fields[0].field == field


def test_the_first_2000_characters_of_a_recalled_message_count() -> None:
    query, limit = convert.recall_query(pb.RecallRequest(query="x" * 32_000))

    assert (len(query), limit) == (2_000, 5)


@pytest.mark.parametrize(
    ("call", "request_", "field"),
    [
        (convert.recall_query, pb.RecallRequest(query=" \n"), "query"),
        (convert.recall_query, pb.RecallRequest(query="x" * 32_001), "query"),
        (convert.recall_query, pb.RecallRequest(query="\x00"), "query"),
        (convert.recall_query, pb.RecallRequest(query="x", limit=51), "limit"),
        (convert.search_query, pb.SearchMemoriesRequest(query="x" * 2_001), "query"),
        (convert.search_query, pb.SearchMemoriesRequest(query="x", limit=101), "limit"),
        (convert.page_request, pb.ListMemoriesRequest(limit=101), "limit"),
        (convert.page_request, pb.ListMemoriesRequest(cursor=""), "cursor"),
        (convert.page_request, pb.ListMemoriesRequest(cursor="not base64!"), "cursor"),
        (convert.page_request, pb.ListMemoriesRequest(cursor=base64.b64encode(b"short").decode()), "cursor"),
        (convert.page_request, pb.ListMemoriesRequest(cursor=base64.b64encode(b"\xff" * 24).decode()), "cursor"),
        (convert.fact_text, "", "text"),
        (convert.fact_text, "x" * 2_001, "text"),
        (convert.fact_text, "a\x00b", "text"),
        (convert.memory_id, "42", "memory_id"),
    ],
)
def test_bad_input_is_refused_by_field(call: Any, request_: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        call(request_)

    assert raised.value.fields[0].field == field


def test_an_absent_limit_is_the_default() -> None:
    assert convert.search_query(pb.SearchMemoriesRequest(query="x")) == ("x", 20)
    assert convert.page_request(pb.ListMemoriesRequest()) == (20, None)


def test_a_fact_is_kept_in_one_line() -> None:
    assert convert.fact_text("  I like\n tea ") == "I like tea"


def test_a_cursor_comes_back_as_the_position_it_stands_for() -> None:
    position = Position(datetime(2026, 11, 24, 12, 30, 1, 999_999, tzinfo=UTC), new_id())

    _, after = convert.page_request(pb.ListMemoriesRequest(cursor=convert.cursor_of(position)))

    assert after == position


def test_the_last_page_has_no_cursor() -> None:
    assert not convert.page_to_proto(Page([], None)).HasField("next_cursor")


@pytest.mark.parametrize("origin", list(Origin))
def test_each_origin_has_its_word_in_the_contract(origin: Origin) -> None:
    moment = datetime(2026, 11, 24, tzinfo=UTC)

    memory = convert.memory_to_proto(Memory(MemoryId(new_id()), "x", origin, None, moment, moment))

    assert pb.MemoryOrigin.Name(memory.origin) == f"MEMORY_ORIGIN_{origin.name}"
    assert not memory.HasField("run_id")
    assert not memory.HasField("similarity")
