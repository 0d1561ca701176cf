"""What the use cases need of the world."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol
from uuid import UUID

from mesh_common.ids import UserId

from mesh_memory.domain import Memory, MemoryId, Message, NewMemory, Origin, Position, Turn, Vector


class Embedder(Protocol):
    """Vectors of texts. Raises Unavailable when the embedding server gives none."""

    @property
    def space(self) -> str:
        """Names the model and dimension: vectors of different spaces are never compared."""
        ...

    async def query(self, text: str, *, timeout_s: float) -> Vector: ...

    async def passages(self, texts: Sequence[str], *, timeout_s: float) -> list[Vector]:
        """One vector for each text, in order."""
        ...


class Extractor(Protocol):
    """Facts out of what was said. Raises Unavailable when the model gives no valid answer."""

    @property
    def origin(self) -> Origin:
        """EXTRACTED with a model that can; else VERBATIM: what the user said is kept as it is."""
        ...

    async def facts(self, messages: Sequence[Message], known: Sequence[str]) -> list[str]:
        """Tidy texts of at most 2,000 characters. `known` are facts kept already, which need not come again."""
        ...


class MemoryStore(Protocol):
    """The rows of one user inside one transaction."""

    async def lock(self) -> None:
        """Until the end of the transaction nobody else holds the lock of this user."""
        ...

    async def search(self, vector: Vector, space: str, *, limit: int, min_similarity: float) -> list[Memory]:
        """The nearest by cosine among all of the user's in this space, best first; exact, not approximate."""
        ...

    async def page(self, limit: int, after: Position | None) -> list[Memory]:
        """Newest first."""
        ...

    async def get(self, memory_id: MemoryId) -> Memory | None: ...

    async def same_text(self, text: str) -> Memory | None:
        """The memory whose text is this one but for spaces and case."""
        ...

    async def count(self) -> int: ...

    async def add(self, memory: NewMemory) -> Memory | None:
        """None when a memory with the same text is there."""
        ...

    async def change(self, memory_id: MemoryId, text: str, space: str, vector: Vector) -> Memory | None:
        """None when there is no such memory. Raises AlreadyExists when another has the same text."""
        ...

    async def delete(self, memory_id: MemoryId) -> bool: ...

    async def delete_all(self) -> int: ...

    async def queue(self, turn: Turn) -> bool:
        """Queues the turn and opens its run; False when this run came before, in work, done or forgotten."""
        ...

    async def count_queued(self) -> int: ...

    async def close_run(self, run_id: UUID) -> bool:
        """Takes the permission to store what the run gave; False when it was used before or taken away."""
        ...

    async def drop_queue(self) -> None:
        """Drops every queued turn and closes every open run, so that one in work stores nothing."""
        ...


class UnitOfWork(Protocol):
    def __call__(self, user_id: UserId) -> AbstractAsyncContextManager[MemoryStore]:
        """One transaction, committed at the end of the block."""
        ...
