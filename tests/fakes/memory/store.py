"""The store of memory without a database; tests/contract/memory compares it with the real one."""

import asyncio
import copy
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from mesh_common.clock import utc_now
from mesh_common.errors import AlreadyExists
from mesh_common.ids import new_id
from mesh_common.subject import Subject
from mesh_memory.domain import (
    Admission,
    Barrier,
    Memory,
    MemoryId,
    NewMemory,
    Position,
    Recalled,
    Turn,
    Vector,
    text_hash,
)


@dataclass
class _Rows:
    memories: dict[MemoryId, Memory] = field(default_factory=dict)
    vectors: dict[MemoryId, tuple[str, Vector]] = field(default_factory=dict)
    opened_at: dict[UUID, datetime] = field(default_factory=dict)
    open_runs: set[UUID] = field(default_factory=set)
    extractions: dict[UUID, int] = field(default_factory=dict)
    queued: list[Turn] = field(default_factory=list)
    generation: int = 0
    forgotten_at: datetime | None = None
    forgotten_threads: set[UUID] = field(default_factory=set)


class FakeUnitOfWork:
    """A transaction works on a copy of the user's rows, which replaces them at its end."""

    def __init__(self) -> None:
        self._rows: dict[Subject, _Rows] = {}
        self._locks: dict[Subject, asyncio.Lock] = {}
        self.open_transactions = 0

    @asynccontextmanager
    async def __call__(self, subject: Subject) -> AsyncIterator["FakeMemoryStore"]:
        store = FakeMemoryStore(lambda: self._rows.setdefault(subject, _Rows()), self._lock_of(subject))
        self.open_transactions += 1
        try:
            yield store
            self._rows[subject] = store.rows
        finally:
            self.open_transactions -= 1
            store.release()

    def queued(self, subject: Subject) -> list[Turn]:
        return list(self._rows.get(subject, _Rows()).queued)

    def _lock_of(self, subject: Subject) -> asyncio.Lock:
        return self._locks.setdefault(subject, asyncio.Lock())


class FakeMemoryStore:
    def __init__(self, committed: Callable[[], _Rows], lock: asyncio.Lock) -> None:
        self._committed = committed
        self.rows = copy.deepcopy(committed())
        self._lock = lock
        self._is_locking = False

    async def lock(self) -> None:
        if not self._is_locking:
            await self._lock.acquire()
            self._is_locking = True
            # Read what other transactions committed while this one waited, as in READ COMMITTED.
            self.rows = copy.deepcopy(self._committed())

    def release(self) -> None:
        if self._is_locking:
            self._lock.release()

    async def search(self, vector: Vector, space: str, *, limit: int, min_similarity: float) -> list[Memory]:
        found = [
            replace(memory, similarity=_cosine(vector, self.rows.vectors[memory.id][1]))
            for memory in self.rows.memories.values()
            if self.rows.vectors[memory.id][0] == space
        ]
        near = [memory for memory in found if (memory.similarity or 0.0) >= min_similarity]
        return sorted(near, key=lambda memory: (-(memory.similarity or 0.0), memory.id))[:limit]

    async def recall(self, vector: Vector, space: str, *, limit: int, min_similarity: float) -> Recalled:
        found = await self.search(vector, space, limit=limit, min_similarity=min_similarity)
        return Recalled(found, self.rows.generation)

    async def page(self, limit: int, after: Position | None) -> list[Memory]:
        newest_first = sorted(
            self.rows.memories.values(), key=lambda memory: (memory.created_at, memory.id), reverse=True
        )
        if after:
            end = (after.created_at, after.memory_id)
            newest_first = [memory for memory in newest_first if (memory.created_at, memory.id) < end]
        return newest_first[:limit]

    async def get(self, memory_id: MemoryId) -> Memory | None:
        return self.rows.memories.get(memory_id)

    async def same_text(self, text: str) -> Memory | None:
        wanted = text_hash(text)
        return next((memory for memory in self.rows.memories.values() if text_hash(memory.text) == wanted), None)

    async def count(self) -> int:
        return len(self.rows.memories)

    async def add(self, memory: NewMemory) -> Memory | None:
        if await self.same_text(memory.text):
            return None
        now = utc_now()
        source = memory.source
        kept = Memory(
            MemoryId(new_id()),
            memory.text,
            memory.origin,
            source.run_id if source else None,
            now,
            now,
            thread_id=source.thread_id if source else None,
            message_id=source.message_id if source else None,
            said_at=source.said_at if source else None,
        )
        self.rows.memories[kept.id] = kept
        self.rows.vectors[kept.id] = (memory.space, memory.vector)
        return kept

    async def change(self, memory_id: MemoryId, text: str, space: str, vector: Vector) -> Memory | None:
        memory = self.rows.memories.get(memory_id)
        if memory is None:
            return None
        same = await self.same_text(text)
        if same and same.id != memory_id:
            raise AlreadyExists("Another memory has the same text.")
        self.rows.memories[memory_id] = replace(memory, text=text, updated_at=utc_now())
        self.rows.vectors[memory_id] = (space, vector)
        return self.rows.memories[memory_id]

    async def delete(self, memory_id: MemoryId) -> bool:
        return self.rows.memories.pop(memory_id, None) is not None

    async def delete_all(self) -> int:
        count = len(self.rows.memories)
        self.rows.memories.clear()
        return count

    async def queue(self, turn: Turn) -> bool:
        if turn.run_id in self.rows.opened_at:
            return False
        self.rows.opened_at[turn.run_id] = utc_now()
        self.rows.open_runs.add(turn.run_id)
        self.rows.queued.append(turn)
        return True

    async def admission(self, thread_id: UUID) -> Admission:
        return Admission(await self.barrier(thread_id), len(self.rows.queued), utc_now())

    async def barrier(self, thread_id: UUID) -> Barrier:
        return Barrier(self.rows.generation, self.rows.forgotten_at, thread_id in self.rows.forgotten_threads)

    async def begin_extraction(self, run_id: UUID) -> int | None:
        if run_id not in self.rows.open_runs:
            return None
        self.rows.extractions[run_id] = self.rows.extractions.get(run_id, 0) + 1
        return self.rows.extractions[run_id]

    async def refund_extraction(self, run_id: UUID) -> None:
        self.rows.extractions[run_id] = max(self.rows.extractions.get(run_id, 0) - 1, 0)

    async def close_run(self, run_id: UUID) -> datetime | None:
        if run_id not in self.rows.open_runs:
            return None
        self.rows.open_runs.remove(run_id)
        return self.rows.opened_at[run_id]

    async def forget(self) -> None:
        self.rows.generation += 1
        self.rows.forgotten_at = utc_now()
        self.rows.open_runs.clear()
        self.rows.queued.clear()

    async def forget_thread(self, thread_id: UUID, deleted_at: datetime | None) -> int:
        self.rows.forgotten_threads.add(thread_id)
        dropped = [turn for turn in self.rows.queued if turn.thread_id == thread_id]
        self.rows.open_runs.difference_update(turn.run_id for turn in dropped)
        self.rows.queued = [turn for turn in self.rows.queued if turn.thread_id != thread_id]
        late = [
            memory.id
            for memory in self.rows.memories.values()
            if memory.thread_id == thread_id and deleted_at and memory.created_at > deleted_at
        ]
        for memory_id in late:
            del self.rows.memories[memory_id]
        return len(late)


def _cosine(one: Vector, other: Vector) -> float:
    dot = sum(a * b for a, b in zip(one, other, strict=True))
    return dot / (math.hypot(*one) * math.hypot(*other))
