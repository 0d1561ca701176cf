"""proto <-> domain: pure functions that check every bound."""

import base64
import binascii
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp
from mesh.memory.v1 import memory_pb2
from mesh_common.errors import InvalidInput
from mesh_common.ids import parse_id
from mesh_common.text import is_visible

from mesh_memory.domain import (
    MAX_TEXT_CHARACTERS,
    Memory,
    Message,
    Origin,
    Page,
    Position,
    Recalled,
    Source,
    Speaker,
    Turn,
    tidy,
)

_MAX_MESSAGE_CHARACTERS: Final = 32_000
_MAX_MESSAGES: Final = 50
_RECALL_LIMIT: Final = 5
_MAX_RECALL_LIMIT: Final = 50
_PAGE_LIMIT: Final = 20
_MAX_PAGE_LIMIT: Final = 100
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

_ORIGINS: Final = {
    Origin.EXTRACTED: memory_pb2.MEMORY_ORIGIN_EXTRACTED,
    Origin.VERBATIM: memory_pb2.MEMORY_ORIGIN_VERBATIM,
    Origin.WRITTEN: memory_pb2.MEMORY_ORIGIN_WRITTEN,
}
_SPEAKERS: Final = {memory_pb2.TURN_ROLE_USER: Speaker.USER, memory_pb2.TURN_ROLE_ASSISTANT: Speaker.ASSISTANT}


def recall_query(request: memory_pb2.RecallRequest) -> tuple[str, int]:
    """The text to recall for, cut to 2,000 characters, and the maximum number of memories."""
    query = _text("query", request.query, _MAX_MESSAGE_CHARACTERS)
    return query[:MAX_TEXT_CHARACTERS], _limit(request.limit, _RECALL_LIMIT, _MAX_RECALL_LIMIT)


def search_query(request: memory_pb2.SearchMemoriesRequest) -> tuple[str, int]:
    query = _text("query", request.query, MAX_TEXT_CHARACTERS)
    return query, _limit(request.limit, _PAGE_LIMIT, _MAX_PAGE_LIMIT)


def turn(request: memory_pb2.RememberRequest) -> Turn:
    if not 1 <= len(request.messages) <= _MAX_MESSAGES:
        raise InvalidInput.of_field("messages", f"must be 1 to {_MAX_MESSAGES}")
    run_id, thread_id = parse_id(request.run_id, "run_id"), parse_id(request.thread_id, "thread_id")
    messages = (
        _message(f"messages[{number}]", message, _source(f"messages[{number}]", message, run_id, thread_id))
        for number, message in enumerate(request.messages)
    )
    return Turn(run_id, thread_id, tuple(messages))


def deleted_thread(request: memory_pb2.ForgetThreadRequest) -> tuple[UUID, datetime | None]:
    """The thread's id, and when it was deleted."""
    deleted_at = request.deleted_at if request.HasField("deleted_at") else None
    return parse_id(request.thread_id, "thread_id"), _moment("deleted_at", deleted_at)


def fact_text(text: str) -> str:
    """The text as it is stored: on one line, with single spaces."""
    return tidy(_text("text", text, MAX_TEXT_CHARACTERS))


def said(request: memory_pb2.CreateMemoryRequest) -> Message | None:
    """What the user said that the fact comes from; None if they wrote the fact themselves."""
    if not request.HasField("source"):
        return None
    source = request.source
    said_at = _moment("source.said_at", source.said_at if source.HasField("said_at") else None)
    run_id, thread_id = parse_id(source.run_id, "source.run_id"), parse_id(source.thread_id, "source.thread_id")
    generation = source.forget_generation if source.HasField("forget_generation") else None
    return Message(Speaker.USER, request.text, Source(run_id, thread_id, said_at=said_at), generation)


def page_request(request: memory_pb2.ListMemoriesRequest) -> tuple[int, Position | None]:
    after = _position(request.cursor) if request.HasField("cursor") else None
    return _limit(request.limit, _PAGE_LIMIT, _MAX_PAGE_LIMIT), after


def memory_id(text: str) -> UUID:
    return parse_id(text, "memory_id")


def memory_to_proto(memory: Memory) -> memory_pb2.Memory:
    return memory_pb2.Memory(
        id=str(memory.id),
        text=memory.text,
        created_at=_timestamp(memory.created_at),
        updated_at=_timestamp(memory.updated_at),
        run_id=_id_to_proto(memory.run_id),
        similarity=memory.similarity,
        origin=_ORIGINS[memory.origin],
        thread_id=_id_to_proto(memory.thread_id),
        message_id=_id_to_proto(memory.message_id),
        said_at=_timestamp(memory.said_at) if memory.said_at else None,
    )


def recalled_to_proto(recalled: Recalled) -> memory_pb2.RecallResponse:
    return memory_pb2.RecallResponse(
        memories=map(memory_to_proto, recalled.memories), forget_generation=recalled.forget_generation
    )


def page_to_proto(page: Page) -> memory_pb2.ListMemoriesResponse:
    return memory_pb2.ListMemoriesResponse(
        memories=map(memory_to_proto, page.memories), next_cursor=cursor_of(page.next) if page.next else None
    )


def cursor_of(position: Position) -> str:
    """Opaque to clients: the creation time in microseconds since 1970, and the memory's id."""
    microseconds = (position.created_at - _EPOCH) // _MICROSECOND
    return base64.urlsafe_b64encode(microseconds.to_bytes(8) + position.memory_id.bytes).decode()


def _position(cursor: str) -> Position:
    try:
        raw = base64.b64decode(cursor, altchars=b"-_", validate=True)
        # UUID rejects a value that is too short or too long.
        memory_id = UUID(bytes=raw[8:])
        created_at = _EPOCH + int.from_bytes(raw[:8]) * _MICROSECOND
    except (binascii.Error, ValueError, OverflowError):
        raise InvalidInput.of_field("cursor", "is not a cursor from this service") from None
    return Position(created_at, memory_id)


def _message(field: str, message: memory_pb2.TurnMessage, source: Source) -> Message:
    speaker = _SPEAKERS.get(message.role)
    if speaker is None:
        raise InvalidInput.of_field(f"{field}.role", "must be user or assistant")
    # Empty content is allowed: an answer of a model may contain only tool calls.
    content = _bounded(f"{field}.content", message.content, _MAX_MESSAGE_CHARACTERS)
    generation = message.forget_generation if message.HasField("forget_generation") else None
    return Message(speaker, content, source, generation)


def _source(field: str, message: memory_pb2.TurnMessage, run_id: UUID, thread_id: UUID) -> Source:
    return Source(
        parse_id(message.run_id, f"{field}.run_id") if message.HasField("run_id") else run_id,
        thread_id,
        parse_id(message.message_id, f"{field}.message_id") if message.HasField("message_id") else None,
        _moment(f"{field}.said_at", message.said_at if message.HasField("said_at") else None),
    )


def _moment(field: str, timestamp: Timestamp | None) -> datetime | None:
    try:
        return timestamp.ToDatetime(UTC) if timestamp else None
    except (ValueError, OverflowError):
        raise InvalidInput.of_field(field, "must be a valid time") from None


def _timestamp(moment: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp


def _id_to_proto(id_: UUID | None) -> str | None:
    return str(id_) if id_ else None


def _text(field: str, text: str, maximum: int) -> str:
    if not is_visible(text):
        raise InvalidInput.of_field(field, "must not be empty")
    return _bounded(field, text, maximum)


def _bounded(field: str, text: str, maximum: int) -> str:
    if len(text) > maximum:
        raise InvalidInput.of_field(field, f"must have at most {maximum} characters")
    if "\x00" in text:
        raise InvalidInput.of_field(field, "must not contain NUL characters")
    return text


def _limit(given: int, default: int, maximum: int) -> int:
    if given > maximum:
        raise InvalidInput.of_field("limit", f"must be 1 to {maximum}")
    return given or default
