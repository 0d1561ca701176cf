"""Changes that users make to their memories."""

from dataclasses import dataclass
from uuid import UUID

from mesh_common.caller import remaining_s
from mesh_common.errors import NotFound, PreconditionFailed, QuotaExceeded, Unavailable
from mesh_common.subject import Subject

from mesh_memory.domain import Memory, MemoryId, Message, NewMemory, Origin, Page, Position, Vector
from mesh_memory.metrics import FORGOTTEN, KEPT
from mesh_memory.ports import MemoryStore, UnitOfWork
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

    async def create(self, subject: Subject, text: str, said: Message | None = None) -> Memory:
        """The new memory, or an existing one with this text. `said` is what the user said in a run that stores it.

        Raises QuotaExceeded if the user has too many, PreconditionFailed if a deletion covers `said`.
        """
        vector = await self._vector(subject, text)
        async with self.unit_of_work(subject) as store:
            await store.lock()
            if said:
                await _reject_forgotten(store, said)
            if known := await store.same_text(text):
                return known
            if await store.count() >= self.limits.max_memories:
                raise QuotaExceeded(
                    f"You have {self.limits.max_memories} memories, which is the maximum. Delete some first.",
                    retry_after_s=_FULL_RETRY_AFTER_S,
                )
            memory = await store.add(_new(text, said, self.embedder.space, vector))
        if memory is None:
            # Every writer holds the lock; only an older release might not.
            raise Unavailable("The memory is being written elsewhere. Try again.")
        KEPT.labels(memory.origin.value).inc()
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


def _new(text: str, said: Message | None, space: str, vector: Vector) -> NewMemory:
    origin = Origin.EXTRACTED if said else Origin.WRITTEN
    return NewMemory(text, origin, said.source if said else None, space, vector)


async def _reject_forgotten(store: MemoryStore, said: Message) -> None:
    """Call it under the lock."""
    admission = await store.admission(said.source.thread_id)
    if admission.barrier.covers(said, admission.now):
        FORGOTTEN.labels("arrival").inc()
        raise PreconditionFailed("What was said before a deletion is not stored.", reason="FORGOTTEN")


def _found(memory: Memory | None) -> Memory:
    if memory is None:
        raise NotFound("There is no such memory.")
    return memory
