"""Turns as the queue stores them. Jobs of the previous release have no sources and no generations."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from mesh_memory.domain import Message, Source, Speaker, Turn

KEEP_TURN: Final = "keep_turn"


def turn_payload(turn: Turn) -> dict[str, Any]:
    messages = [_message_payload(message) for message in turn.messages]
    return {"run_id": str(turn.run_id), "thread_id": str(turn.thread_id), "messages": messages}


def turn_of(payload: dict[str, Any]) -> Turn:
    run_id, thread_id = UUID(payload["run_id"]), UUID(payload["thread_id"])
    return Turn(run_id, thread_id, tuple(_message(run_id, thread_id, each) for each in payload["messages"]))


def _message_payload(message: Message) -> dict[str, Any]:
    source = message.source
    return {
        "speaker": message.speaker.value,
        "content": message.content,
        "run_id": str(source.run_id),
        "message_id": str(source.message_id) if source.message_id else None,
        "said_at": source.said_at.isoformat() if source.said_at else None,
        "forget_generation": message.forget_generation,
    }


def _message(run_id: UUID, thread_id: UUID, payload: dict[str, Any]) -> Message:
    message_id, said_at = payload.get("message_id"), payload.get("said_at")
    source = Source(
        UUID(payload["run_id"]) if "run_id" in payload else run_id,
        thread_id,
        UUID(message_id) if message_id else None,
        datetime.fromisoformat(said_at) if said_at else None,
    )
    return Message(Speaker(payload["speaker"]), payload["content"], source, payload.get("forget_generation"))
