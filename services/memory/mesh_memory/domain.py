"""The types and rules of memory."""

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final, NewType
from uuid import UUID

from mesh_common.text import comparable

MemoryId = NewType("MemoryId", UUID)
Vector = list[float]

MAX_TEXT_CHARACTERS: Final = 2_000
# Shorter messages are greetings or thanks; "I'm Ada" has seven bytes. Bytes, because one Korean syllable carries more
# meaning than one letter.
MIN_VERBATIM_BYTES: Final = 7
_SENTENCE_END: Final = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")  # noqa: RUF001 - full-width marks are intended
_QUESTION_MARKS: Final = ("?", "？")  # noqa: RUF001 - the full-width mark is intended
_WORD: Final = re.compile(r"\w+(?:[-.:/]\w+)*")


class Origin(StrEnum):
    EXTRACTED = "extracted"
    VERBATIM = "verbatim"
    WRITTEN = "written"


class Speaker(StrEnum):
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class Source:
    """Where something was said. The fields that are None were not sent by an older release."""

    run_id: UUID
    thread_id: UUID
    message_id: UUID | None = None
    said_at: datetime | None = None
    """By the clock of the agent's database."""


@dataclass(frozen=True, slots=True)
class Message:
    """`forget_generation` is the user's when its run began; None if the agent did not learn it."""

    speaker: Speaker
    content: str
    source: Source
    forget_generation: int | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """Messages of one thread, oldest first: of one run, or of several in quick succession. `run_id` is the last."""

    run_id: UUID
    thread_id: UUID
    messages: tuple[Message, ...]

    def said_by_user(self) -> list[str]:
        return [message.content for message in self.messages if message.speaker is Speaker.USER]


@dataclass(frozen=True, slots=True)
class Fact:
    """What a turn says about the user, and where."""

    text: str
    source: Source


@dataclass(frozen=True, slots=True)
class Barrier:
    """What must no longer be stored for a user.

    Numbers decide before clocks: a message said under an older forget generation is covered. The time decides about a
    message whose run began after the deletion, or without memory.
    """

    generation: int = 0
    forgotten_at: datetime | None = None
    """The time of the last deletion of memories, by the clock of memory's database."""
    is_thread_forgotten: bool = False

    def covers(self, message: Message, arrived_at: datetime) -> bool:
        """Nothing was said later than it arrived, whatever the clock of the agent's database shows."""
        if self.is_thread_forgotten:
            return True
        if message.forget_generation is not None and message.forget_generation < self.generation:
            return True
        said_at = min(message.source.said_at or arrived_at, arrived_at)
        return self.forgotten_at is not None and said_at <= self.forgotten_at


@dataclass(frozen=True, slots=True)
class Admission:
    """The state that decides whether a turn is queued: read in one statement."""

    barrier: Barrier
    queued: int
    now: datetime
    """By the clock of the database."""


@dataclass(frozen=True, slots=True)
class NewMemory:
    """A fact to store; `source` is None if the user wrote it. `space` names the embedding model and dimension."""

    text: str
    origin: Origin
    source: Source | None
    space: str
    vector: Vector


@dataclass(frozen=True, slots=True)
class Memory:
    """One long-term fact about a user. `similarity` (cosine, -1..1) is set only in search results."""

    id: MemoryId
    text: str
    origin: Origin
    run_id: UUID | None
    created_at: datetime
    updated_at: datetime
    similarity: float | None = None
    thread_id: UUID | None = None
    message_id: UUID | None = None
    said_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Recalled:
    """Memories, best first, and the user's forget generation when they were found."""

    memories: Sequence[Memory]
    forget_generation: int


@dataclass(frozen=True, slots=True)
class Position:
    """The end of a page. Lists are sorted from newest to oldest, and by id among equal times."""

    created_at: datetime
    memory_id: UUID


@dataclass(frozen=True, slots=True)
class Page:
    memories: Sequence[Memory]
    next: Position | None


def uncovered(turn: Turn, barrier: Barrier, arrived_at: datetime) -> Turn | None:
    """The turn without the runs of which the barrier covers a message; None if nothing is left."""
    covered = {message.source.run_id for message in turn.messages if barrier.covers(message, arrived_at)}
    left = tuple(message for message in turn.messages if message.source.run_id not in covered)
    return replace(turn, messages=left) if left else None


def tidy(text: str) -> str:
    """The text in one line, with single spaces. Stored texts are always tidy."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def text_hash(text: str) -> bytes:
    """Equal for texts that differ only in spaces, case and characters that nobody sees."""
    return hashlib.sha256(tidy(comparable(text)).casefold().encode()).digest()


def own_statements(messages: Sequence[str]) -> list[str]:
    """The statements worth storing verbatim: each message without its questions, unless almost nothing remains.

    A question contains no fact, and if it were stored, the same question would later find it as the best match.
    """
    kept = (" ".join(filter(_is_statement, _SENTENCE_END.split(message.strip()))) for message in messages)
    return [text for text in map(shortened, kept) if len(comparable(text).encode()) >= MIN_VERBATIM_BYTES]


def shortened(text: str) -> str:
    """Tidy and at most 2,000 characters."""
    return tidy(text)[:MAX_TEXT_CHARACTERS].rstrip()


def may_say_the_same(one: str, other: str) -> bool:
    """False if two texts name different numbers or codes, however similar their vectors are.

    multilingual-e5-small gives 0.988 for two code words that differ in their last digit (tests/integration/memory).
    """
    return _codes(one) == _codes(other)


def _codes(text: str) -> set[str]:
    return {word for word in _WORD.findall(text.casefold()) if any(character.isdigit() for character in word)}


def _is_statement(sentence: str) -> bool:
    return not sentence.rstrip().endswith(_QUESTION_MARKS)
