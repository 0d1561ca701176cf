"""Changes that users make to their memories."""

from dataclasses import dataclass
from uuid import UUID

from mesh_common.caller import remaining_s
from mesh_common.errors import NotFound, QuotaExceeded, Unavailable
from mesh_common.subject import Subject

from mesh_memory.domain import Memory, MemoryId, NewMemory, Origin, Page, Position, Vector
from mesh_memory.metrics import KEPT
from mesh_memory.ports import UnitOfWork
from mesh_memory.usecases.fair_embedding import FairEmbedder
from mesh_memory.usecases.limits import Limits

# Waiting does not free memories, but the error requires a value.
_FULL_RETRY_AFTER_S = 3_600.0


@dataclass(frozen=True, slots=True)
class EditMemories:
    """Changes that users make to their memories. Another user's memory counts as not found."""

    unit_of_work: UnitOfWork
    embedder: FairEmbedder
    limits: Limits

    async def create(self, subject: Subject, text: str) -> Memory:
        """The new memory, or an existing one with this text. Raises QuotaExceeded if the user has too many."""
        vector = await self._vector(subject, text)
        async with self.unit_of_work(subject) as store:
            await store.lock()
            if known := await store.same_text(text):
                return known
            if await store.count() >= self.limits.max_memories:
                raise QuotaExceeded(
                    f"You have {self.limits.max_memories} memories, which is the maximum. Delete some first.",
                    retry_after_s=_FULL_RETRY_AFTER_S,
                )
            memory = await store.add(NewMemory(text, Origin.WRITTEN, None, self.embedder.space, vector))
        if memory is None:
            # Every writer holds the lock; only an older release might not.
            raise Unavailable("The memory is being written elsewhere. Try again.")
        KEPT.labels(Origin.WRITTEN.value).inc()
        return memory

    async def get(self, subject: Subject, memory_id: UUID) -> Memory:
        async with self.unit_of_work(subject) as store:
            return _found(await store.get(MemoryId(memory_id)))

    async def page(self, subject: Subject, limit: int, after: Position | None) -> Page:
        """Newest first."""
        async with self.unit_of_work(subject) as store:
            memories = await store.page(limit + 1, after)
        if len(memories) <= limit:
            return Page(memories, None)
        last = memories[limit - 1]
        return Page(memories[:limit], Position(last.created_at, last.id))

    async def update(self, subject: Subject, memory_id: UUID, text: str) -> Memory:
        """The memory with its new text and vector. Raises AlreadyExists if another memory has this text."""
        vector = await self._vector(subject, text)
        async with self.unit_of_work(subject) as store:
            return _found(await store.change(MemoryId(memory_id), text, self.embedder.space, vector))

    async def _vector(self, subject: Subject, text: str) -> Vector:
        return await self.embedder.passage(subject, text, timeout_s=remaining_s(self.limits.embedding_timeout_s))


def _found(memory: Memory | None) -> Memory:
    if memory is None:
        raise NotFound("There is no such memory.")
    return memory
