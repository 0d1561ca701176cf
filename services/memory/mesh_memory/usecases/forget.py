"""Deletions by users, each a barrier: what was said before it is not stored afterwards."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import structlog
from mesh_common.errors import NotFound
from mesh_common.subject import Subject

from mesh_memory.domain import MemoryId
from mesh_memory.ports import UnitOfWork

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ForgetMemories:
    unit_of_work: UnitOfWork

    async def one(self, subject: Subject, memory_id: UUID) -> None:
        """Deletes a memory, and drops all turns that are not stored yet.

        Only the extraction model can tell whether a pending turn restates the memory, and not reliably. Losing a few
        pending facts is better than bringing a deleted one back.
        """
        async with self.unit_of_work(subject) as store:
            await store.lock()
            if not await store.delete(MemoryId(memory_id)):
                raise NotFound("There is no such memory.")
            await store.forget()

    async def all(self, subject: Subject) -> int:
        """Deletes all memories, and drops all turns that are not stored yet. Returns the number of memories."""
        async with self.unit_of_work(subject) as store:
            await store.lock()
            await store.forget()
            deleted = await store.delete_all()
        log.info("memory.all_deleted", count=deleted)
        return deleted

    async def thread(self, subject: Subject, thread_id: UUID, deleted_at: datetime | None) -> None:
        """Drops all turns of a deleted thread that are not stored yet. Memories stored before `deleted_at` stay."""
        async with self.unit_of_work(subject) as store:
            await store.lock()
            late = await store.forget_thread(thread_id, deleted_at)
        log.info("memory.thread_forgotten", late=late)
