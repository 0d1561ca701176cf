"""The ports of the use cases."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol
from uuid import UUID

from mesh_common.subject import Subject

from mesh_memory.domain import Memory, MemoryId, Message, NewMemory, Origin, Position, Turn, Vector


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


class Extractor(Protocol):
    """Extracts facts from messages. Raises Unavailable if the model gives no valid answer."""

    @property
    def origin(self) -> Origin:
        """EXTRACTED with an extraction model; VERBATIM without one, when the user's messages are stored unchanged."""
        ...

    async def facts(self, messages: Sequence[Message], known: Sequence[str]) -> list[str]:
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

    async def count_queued(self) -> int: ...

    async def close_run(self, run_id: UUID) -> bool:
        """Uses up the permission to store the run's facts. False if it was used before or revoked."""
        ...

    async def drop_queue(self) -> None:
        """Drops every queued turn and closes every open run, so that a turn being processed stores nothing."""
        ...


class UnitOfWork(Protocol):
    def __call__(self, subject: Subject) -> AbstractAsyncContextManager[MemoryStore]:
        """One transaction, committed at the end of the block."""
        ...
