"""Turns and their messages, for tests of memory."""

from datetime import datetime
from uuid import UUID

from mesh_common.clock import utc_now
from mesh_common.ids import new_id
from mesh_memory.domain import Message, Source, Speaker, Turn


def source(*, run_id: UUID | None = None, thread_id: UUID | None = None, said_at: datetime | None = None) -> Source:
    return Source(run_id or new_id(), thread_id or new_id(), new_id(), said_at or utc_now())


def message(speaker: Speaker, text: str, *, of: Source | None = None, generation: int | None = None) -> Message:
    return Message(speaker, text, of or source(), generation)


def said(text: str, *, of: Source | None = None, generation: int | None = None) -> Message:
    """A message of the user."""
    return message(Speaker.USER, text, of=of, generation=generation)


def turn_of(*texts: str, said_at: datetime | None = None, generation: int | None = None) -> Turn:
    """One run in which the user said these texts."""
    run_id, thread_id = new_id(), new_id()
    sources = [source(run_id=run_id, thread_id=thread_id, said_at=said_at) for _ in texts]
    messages = (said(text, of=of, generation=generation) for text, of in zip(texts, sources, strict=True))
    return Turn(run_id, thread_id, tuple(messages))


def as_one(*turns: Turn) -> Turn:
    """Several runs of one thread in one call."""
    return Turn(turns[-1].run_id, turns[-1].thread_id, tuple(one for turn in turns for one in turn.messages))
