"""Processes a queued turn."""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from mesh_common.errors import Unavailable
from mesh_common.subject import Subject
from opentelemetry import trace

from mesh_memory.domain import Fact, NewMemory, Origin, Turn, may_say_the_same, uncovered
from mesh_memory.metrics import FORGOTTEN, GIVEN_UP, KEPT, SKIPPED
from mesh_memory.ports import Embedder, Extractor, MemoryStore, UnitOfWork, UnreadableAnswer
from mesh_memory.usecases.limits import Limits

log = structlog.get_logger()

# How many of the user's memories, the nearest to the turn, the extraction model sees.
_KNOWN_LIMIT = 10
_NEIGHBOURS = 5


@dataclass(frozen=True, slots=True)
class KeepTurn:
    """Extracts the facts of a queued turn and stores those that are new.

    Idempotent by run. Stores nothing if a deletion covers the turn by then.
    """

    unit_of_work: UnitOfWork
    embedder: Embedder
    extractor: Extractor
    limits: Limits

    async def __call__(self, subject: Subject, turn: Turn) -> None:
        trace.get_current_span().set_attribute("mesh.run_id", str(turn.run_id))
        facts = await self._facts(subject, turn)
        if facts is None:
            return
        candidates = await self._candidates(facts)
        async with self.unit_of_work(subject) as store:
            await store.lock()
            if not await self._may_store(store, turn):
                return
            kept = await self._keep(store, candidates)
        KEPT.labels(self.extractor.origin.value).inc(kept)
        log.info("memory.turn_kept", run_id=str(turn.run_id), facts=len(facts), kept=kept)

    async def _facts(self, subject: Subject, turn: Turn) -> list[Fact] | None:
        """None if there is nothing to store: the run is closed, or its turn is given up."""
        if self.extractor.origin is Origin.VERBATIM or not turn.said_by_user():
            return await self.extractor.facts(turn.messages, [])
        known = await self._known(subject, turn)
        async with self.unit_of_work(subject) as store:
            answers = await store.begin_extraction(turn.run_id)
        if answers is None:
            _log_closed(turn)
            return None
        if answers > self.limits.max_extractions:
            # The process died during the last call that was allowed.
            await self._give_up(subject, turn)
            return None
        return await self._answered(subject, turn, known, is_last=answers == self.limits.max_extractions)

    async def _answered(self, subject: Subject, turn: Turn, known: list[str], *, is_last: bool) -> list[Fact] | None:
        try:
            return await self.extractor.facts(turn.messages, known)
        except UnreadableAnswer:
            if is_last:
                await self._give_up(subject, turn)
                return None
            raise
        except Unavailable:
            async with self.unit_of_work(subject) as store:
                await store.refund_extraction(turn.run_id)
            raise

    async def _give_up(self, subject: Subject, turn: Turn) -> None:
        async with self.unit_of_work(subject) as store:
            await store.close_run(turn.run_id)
        GIVEN_UP.inc()
        log.warning("memory.turn_given_up", run_id=str(turn.run_id), answers=self.limits.max_extractions)

    async def _known(self, subject: Subject, turn: Turn) -> list[str]:
        said = "\n".join(turn.said_by_user())
        vector = await self.embedder.query(said, timeout_s=self.limits.embedding_timeout_s)
        async with self.unit_of_work(subject) as store:
            known = await store.search(vector, self.embedder.space, limit=_KNOWN_LIMIT, min_similarity=-1.0)
        return [memory.text for memory in known]

    async def _candidates(self, facts: Sequence[Fact]) -> list[NewMemory]:
        if not facts:
            return []
        texts = [fact.text for fact in facts]
        vectors = await self.embedder.passages(texts, timeout_s=self.limits.embedding_timeout_s)
        origin, space = self.extractor.origin, self.embedder.space
        return [
            NewMemory(fact.text, origin, fact.source, space, vector)
            for fact, vector in zip(facts, vectors, strict=True)
        ]

    async def _may_store(self, store: MemoryStore, turn: Turn) -> bool:
        """Compares the turn with the barrier, under the lock.

        Runs that were covered on arrival are not in the queue. A deletion since then covers everything in it, because
        all of it was said before; and if a clock disagrees, a fact could still come from any message of the turn.
        """
        arrived_at = await store.close_run(turn.run_id)
        if arrived_at is None:
            _log_closed(turn)
            return False
        if uncovered(turn, await store.barrier(turn.thread_id), arrived_at) != turn:
            FORGOTTEN.labels("extraction").inc()
            log.info("memory.turn_forgotten", run_id=str(turn.run_id))
            return False
        return True

    async def _keep(self, store: MemoryStore, candidates: Sequence[NewMemory]) -> int:
        capacity = self.limits.max_memories - await store.count()
        kept = 0
        for candidate in candidates:
            if await self._is_known(store, candidate):
                SKIPPED.labels("duplicate").inc()
            elif kept >= capacity:
                SKIPPED.labels("full").inc()
                log.warning("memory.full", run_id=str(candidate.source and candidate.source.run_id))
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


def _log_closed(turn: Turn) -> None:
    log.info("memory.turn_not_kept", run_id=str(turn.run_id), reason="closed")
