"""Threads and their messages."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from mesh_common.events import model as events
from mesh_common.ids import RunId, ThreadId

MAX_TITLE_CHARS = 200
MAX_METADATA_PAIRS = 16
MAX_METADATA_KEY_CHARS = 64
MAX_METADATA_VALUE_CHARS = 512
Metadata = dict[str, str]
RecalledMemory = events.RecalledMemory


class Role(StrEnum):
    USER = "user"
    ASSISTANT = "assistant"
    """The answer of a run, its last message to the user."""
    INTERIM = "interim"
    """What a run said before its answer, e.g. before it called a tool. Releases before this one do not know it."""
    NOTE = "note"
    """What the agent notes about the conversation: a call that was not made."""
    UNKNOWN = "unknown"
    """A role stored by a newer release. Such messages are listed, but sent to no model."""

    @classmethod
    def _missing_(cls, value: object) -> "Role":
        del value
        return cls.UNKNOWN


@dataclass(frozen=True, slots=True)
class Thread:
    """`assistant`: what its last run was started with, as `name` or `name@version`; empty until a run names one."""

    id: ThreadId
    title: str
    metadata: Metadata
    created_at: datetime
    updated_at: datetime
    assistant: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    id: UUID
    role: Role
    content: str
    created_at: datetime
    run_id: RunId
    is_partial: bool
    agent: str = ""
    """Of a team; empty for the run's own assistant."""


@dataclass(frozen=True, slots=True)
class Recalled:
    """Memories, best first. `forget_generation` is the user's current one; None from an older release of memory."""

    memories: Sequence[RecalledMemory] = ()
    forget_generation: int | None = None


@dataclass(frozen=True, slots=True)
class ToRemember:
    """A message for memory, with the forget generation of its run, if the run learned it."""

    message: Message
    forget_generation: int | None


@dataclass(frozen=True, slots=True)
class SaidInRun:
    """Where a user said something that a tool stores. `forget_generation` as in `ToRemember`."""

    run_id: RunId
    thread_id: ThreadId
    said_at: datetime
    forget_generation: int | None


@dataclass(frozen=True, slots=True)
class Said:
    """The part of a message that is sent to a model."""

    role: Role
    content: str
