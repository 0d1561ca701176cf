"""The types and rules of memory. Standard library only."""

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, NewType
from uuid import UUID

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
class Message:
    speaker: Speaker
    content: str


@dataclass(frozen=True, slots=True)
class Turn:
    """The messages of one run, oldest first."""

    run_id: UUID
    thread_id: UUID
    messages: tuple[Message, ...]

    def said_by_user(self) -> list[str]:
        return [message.content for message in self.messages if message.speaker is Speaker.USER]


@dataclass(frozen=True, slots=True)
class NewMemory:
    """A fact to store. `space` names the embedding model and dimension of the vector."""

    text: str
    origin: Origin
    run_id: UUID | None
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


@dataclass(frozen=True, slots=True)
class Position:
    """The end of a page. Lists are sorted from newest to oldest, and by id among equal times."""

    created_at: datetime
    memory_id: UUID


@dataclass(frozen=True, slots=True)
class Page:
    memories: Sequence[Memory]
    next: Position | None


def tidy(text: str) -> str:
    """The text in one line, with single spaces. Stored texts are always tidy."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def text_hash(text: str) -> bytes:
    """Equal for texts that differ only in spaces and case."""
    return hashlib.sha256(tidy(text).casefold().encode()).digest()


def own_statements(messages: Sequence[str]) -> list[str]:
    """The statements worth storing verbatim: each message without its questions, unless almost nothing remains.

    A question contains no fact, and if it were stored, the same question would later find it as the best match.
    """
    kept = (" ".join(filter(_is_statement, _SENTENCE_END.split(message.strip()))) for message in messages)
    return [text for text in map(shortened, kept) if len(text.encode()) >= MIN_VERBATIM_BYTES]


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
