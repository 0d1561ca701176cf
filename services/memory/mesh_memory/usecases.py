"""The use cases of memory: queue a turn, store its facts, and find them for a later message."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import structlog
from mesh_common.caller import remaining_s
from mesh_common.errors import DeadlineExceeded, MeshError, NotFound, QuotaExceeded, Unavailable
from mesh_common.process.telemetry import tracer
from mesh_common.subject import Subject
from opentelemetry import trace

from mesh_memory.domain import Memory, MemoryId, NewMemory, Origin, Page, Position, Turn, Vector, may_say_the_same
from mesh_memory.metrics import KEPT, RECALL_SECONDS, SKIPPED
from mesh_memory.ports import Embedder, Extractor, MemoryStore, UnitOfWork

log = structlog.get_logger()

# How many of the user's memories, the nearest to the turn, the extraction model sees.
_KNOWN_LIMIT = 10
_NEIGHBOURS = 5
_BUSY_RETRY_AFTER_S = 30.0
# Waiting does not free memories, but the error requires a value.
_FULL_RETRY_AFTER_S = 3_600.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds, similarities as cosine."""

    recall_timeout_s: float
    embedding_timeout_s: float
    recall_min_similarity: float
    duplicate_similarity: float
    max_memories: int
    max_queued_turns: int


@dataclass(frozen=True, slots=True)
class FindMemories:
    """Recall and search: exact, among the user's own memories, best match first."""

    unit_of_work: UnitOfWork
    embedder: Embedder
    limits: Limits

    async def recall(self, subject: Subject, query: str, limit: int) -> list[Memory]:
        """The memories relevant to a message: none below the minimum similarity.

        Raises DeadlineExceeded after `recall_timeout_s`, or earlier if the caller's deadline is nearer.
        """
        budget_s = remaining_s(self.limits.recall_timeout_s)
        async with _recalling(budget_s):
            vector = await self.embedder.query(query, timeout_s=budget_s)
            return await self._nearest(subject, vector, limit, self.limits.recall_min_similarity)

    async def search(self, subject: Subject, query: str, limit: int) -> list[Memory]:
        """The nearest memories, without a minimum similarity."""
        vector = await self.embedder.query(query, timeout_s=remaining_s(self.limits.embedding_timeout_s))
        return await self._nearest(subject, vector, limit, -1.0)

    async def _nearest(self, subject: Subject, vector: Vector, limit: int, min_similarity: float) -> list[Memory]:
        with tracer.start_as_current_span("search_memory", record_exception=False) as span:
            async with self.unit_of_work(subject) as store:
                found = await store.search(vector, self.embedder.space, limit=limit, min_similarity=min_similarity)
            span.set_attributes({"gen_ai.operation.name": "search_memory", "mesh.memory.count": len(found)})
            return found


@dataclass(frozen=True, slots=True)
class Remember:
    """Queues a turn, once per run."""

    unit_of_work: UnitOfWork
    wake_worker: Callable[[], None]
    limits: Limits

    async def __call__(self, subject: Subject, turn: Turn) -> None:
        async with self.unit_of_work(subject) as store:
            if await store.count_queued() >= self.limits.max_queued_turns:
                raise Unavailable("Too many turns are waiting to be remembered.", retry_after_s=_BUSY_RETRY_AFTER_S)
            is_new = await store.queue(turn)
        if is_new:
            self.wake_worker()


@dataclass(frozen=True, slots=True)
class KeepTurn:
    """Processes a queued turn: extracts its facts and stores those that are new.

    Idempotent by run. Stores nothing if the user deleted all memories meanwhile.
    """

    unit_of_work: UnitOfWork
    embedder: Embedder
    extractor: Extractor
    limits: Limits

    async def __call__(self, subject: Subject, turn: Turn) -> None:
        trace.get_current_span().set_attribute("mesh.run_id", str(turn.run_id))
        facts = await self.extractor.facts(turn.messages, await self._known(subject, turn))
        vectors = await self.embedder.passages(facts, timeout_s=self.limits.embedding_timeout_s) if facts else []
        candidates = [
            NewMemory(fact, self.extractor.origin, turn.run_id, self.embedder.space, vector)
            for fact, vector in zip(facts, vectors, strict=True)
        ]
        async with self.unit_of_work(subject) as store:
            await store.lock()
            if not await store.close_run(turn.run_id):
                log.info("memory.turn_not_kept", run_id=str(turn.run_id), reason="closed")
                return
            kept = await self._keep(store, candidates)
        KEPT.labels(self.extractor.origin.value).inc(kept)
        log.info("memory.turn_kept", run_id=str(turn.run_id), facts=len(facts), kept=kept)

    async def _known(self, subject: Subject, turn: Turn) -> list[str]:
        said = "\n".join(turn.said_by_user())
        if self.extractor.origin is Origin.VERBATIM or not said:
            return []
        vector = await self.embedder.query(said, timeout_s=self.limits.embedding_timeout_s)
        async with self.unit_of_work(subject) as store:
            known = await store.search(vector, self.embedder.space, limit=_KNOWN_LIMIT, min_similarity=-1.0)
        return [memory.text for memory in known]

    async def _keep(self, store: MemoryStore, candidates: list[NewMemory]) -> int:
        capacity = self.limits.max_memories - await store.count()
        kept = 0
        for candidate in candidates:
            if await self._is_known(store, candidate):
                SKIPPED.labels("duplicate").inc()
            elif kept >= capacity:
                SKIPPED.labels("full").inc()
                log.warning("memory.full", run_id=str(candidate.run_id))
            else:
                kept += await store.add(candidate) is not None
        return kept

    async def _is_known(self, store: MemoryStore, candidate: NewMemory) -> bool:
        if await store.same_text(candidate.text):
            return True
        near = await store.search(
            candidate.vector,
            candidate.space,
            limit=_NEIGHBOURS,
            min_similarity=self.limits.duplicate_similarity,
        )
        return any(may_say_the_same(memory.text, candidate.text) for memory in near)


@dataclass(frozen=True, slots=True)
class EditMemories:
    """Changes that users make to their memories. Another user's memory counts as not found."""

    unit_of_work: UnitOfWork
    embedder: Embedder
    limits: Limits

    async def create(self, subject: Subject, text: str) -> Memory:
        """The new memory, or an existing one with this text. Raises QuotaExceeded if the user has too many."""
        vector = await self._vector(text)
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
        vector = await self._vector(text)
        async with self.unit_of_work(subject) as store:
            return _found(await store.change(MemoryId(memory_id), text, self.embedder.space, vector))

    async def delete(self, subject: Subject, memory_id: UUID) -> None:
        async with self.unit_of_work(subject) as store:
            if not await store.delete(MemoryId(memory_id)):
                raise _unknown()

    async def delete_all(self, subject: Subject) -> int:
        """Deletes all memories, all queued turns, and the result of a turn being processed."""
        async with self.unit_of_work(subject) as store:
            await store.lock()
            await store.drop_queue()
            deleted = await store.delete_all()
        log.info("memory.all_deleted", count=deleted)
        return deleted

    async def _vector(self, text: str) -> Vector:
        [vector] = await self.embedder.passages([text], timeout_s=remaining_s(self.limits.embedding_timeout_s))
        return vector


@asynccontextmanager
async def _recalling(budget_s: float) -> AsyncIterator[None]:
    """Enforces the budget and records the outcome of the recall."""
    started_s = time.perf_counter()
    outcome = "cancelled"
    try:
        async with asyncio.timeout(budget_s):
            yield
        outcome = "done"
    except TimeoutError as error:
        outcome = "late"
        raise DeadlineExceeded("Recall took too long.") from error
    except MeshError:
        outcome = "unavailable"
        raise
    finally:
        RECALL_SECONDS.labels(outcome).observe(time.perf_counter() - started_s)


def _found(memory: Memory | None) -> Memory:
    if memory is None:
        raise _unknown()
    return memory


def _unknown() -> NotFound:
    return NotFound("There is no such memory.")
