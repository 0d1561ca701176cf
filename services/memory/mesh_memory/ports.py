"""The ports of the use cases."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol
from uuid import UUID

from mesh_common.errors import Unavailable
from mesh_common.subject import Subject

from mesh_memory.domain import (
    Admission,
    Barrier,
    Fact,
    Memory,
    MemoryId,
    Message,
    NewMemory,
    Origin,
    Position,
    Recalled,
    Turn,
    Vector,
)


class Embedder(Protocol):
    """Vectors of texts. Raises Unavailable if the embedding server returns none."""

    @property
    def space(self) -> str:
        """The name of the model and dimension. Vectors of different spaces are never compared."""
        ...

    async def query(self, text: str, *, timeout_s: float) -> Vector: ...

    async def passages(self, texts: Sequence[str], *, timeout_s: float) -> list[Vector]:
        """One vector for each text, in order."""
        ...


class UnreadableAnswer(Unavailable):
    """The extraction model answered, and the answer cannot be used. Every further answer costs as much again."""

    def __init__(self) -> None:
        super().__init__("The extraction model gives no valid answer.", reason="EXTRACTION_UNREADABLE")


class Extractor(Protocol):
    """Extracts facts from messages, with one call of the model.

    Raises UnreadableAnswer, Unavailable if the model does not answer, and InvalidInput if it rejects the messages.
    """

    @property
    def origin(self) -> Origin:
        """EXTRACTED with an extraction model; VERBATIM without one, when the user's messages are stored unchanged."""
        ...

    async def facts(self, messages: Sequence[Message], known: Sequence[str]) -> list[Fact]:
        """Tidy texts of at most 2,000 characters. `known` are facts already stored, which need not be repeated."""
        ...


class MemoryStore(Protocol):
    """The rows of one subject inside one transaction."""

    async def lock(self) -> None:
        """Takes this user's exclusive lock until the end of the transaction."""
        ...

    async def search(self, vector: Vector, space: str, *, limit: int, min_similarity: float) -> list[Memory]:
        """The user's memories in this space that are nearest by cosine, best first. Exact, not approximate."""
        ...

    async def recall(self, vector: Vector, space: str, *, limit: int, min_similarity: float) -> Recalled:
        """The same as `search`, with the user's forget generation."""
        ...

    async def page(self, limit: int, after: Position | None) -> list[Memory]:
        """Newest first."""
        ...

    async def get(self, memory_id: MemoryId) -> Memory | None: ...

    async def same_text(self, text: str) -> Memory | None:
        """The memory whose text differs at most in spaces and case."""
        ...

    async def count(self) -> int: ...

    async def add(self, memory: NewMemory) -> Memory | None:
        """None if a memory with the same text exists."""
        ...

    async def change(self, memory_id: MemoryId, text: str, space: str, vector: Vector) -> Memory | None:
        """None if there is no such memory. Raises AlreadyExists if another memory has the same text."""
        ...

    async def delete(self, memory_id: MemoryId) -> bool: ...

    async def delete_all(self) -> int: ...

    async def queue(self, turn: Turn) -> bool:
        """Queues the turn and opens its run. False if this run was queued before, whatever became of it."""
        ...

    async def admission(self, thread_id: UUID) -> Admission:
        """The barrier for the thread, and the number of the user's queued turns."""
        ...

    async def barrier(self, thread_id: UUID) -> Barrier:
        """Read it under the lock to decide what is stored."""
        ...

    async def begin_extraction(self, run_id: UUID) -> int | None:
        """Counts an answer of the extraction model before it is paid for. Returns the number so far, with this one;
        None if the run is closed."""
        ...

    async def refund_extraction(self, run_id: UUID) -> None:
        """The provider did not answer, so the last call does not count."""
        ...

    async def close_run(self, run_id: UUID) -> datetime | None:
        """Uses up the permission to store the run's facts. Returns when the run was queued; None if the permission was
        used before or revoked."""
        ...

    async def forget(self) -> None:
        """Raises the user's forget generation, drops every queued turn and closes every open run."""
        ...

    async def forget_thread(self, thread_id: UUID, deleted_at: datetime | None) -> int:
        """Drops the thread's queued turns, rejects its later ones, and deletes its memories stored after `deleted_at`,
        or none if that is None. Returns how many memories it deleted."""
        ...


class UnitOfWork(Protocol):
    def __call__(self, subject: Subject) -> AbstractAsyncContextManager[MemoryStore]:
        """One transaction, committed at the end of the block."""
        ...
