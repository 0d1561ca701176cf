"""Finds memories: for a run, and for a user who searches."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from mesh_common.caller import remaining_s
from mesh_common.errors import DeadlineExceeded, MeshError
from mesh_common.process.telemetry import tracer
from mesh_common.subject import Subject
from opentelemetry.trace import Span

from mesh_memory.domain import Memory, Recalled
from mesh_memory.metrics import RECALL_SECONDS
from mesh_memory.ports import Embedder, UnitOfWork
from mesh_memory.usecases.fair_embedding import FairEmbedder
from mesh_memory.usecases.limits import Limits


@dataclass(frozen=True, slots=True)
class FindMemories:
    """Recall and search: exact, among the user's own memories, best match first."""

    unit_of_work: UnitOfWork
    embedder: Embedder
    """For recall alone."""
    searching: FairEmbedder
    limits: Limits

    async def recall(self, subject: Subject, query: str, limit: int) -> Recalled:
        """The memories relevant to a message, none below the minimum similarity, and the user's forget generation.

        Raises DeadlineExceeded after `recall_timeout_s`, or earlier if the caller's deadline is nearer.
        """
        budget_s = remaining_s(self.limits.recall_timeout_s)
        async with _recalling(budget_s):
            vector = await self.embedder.query(query, timeout_s=budget_s)
            with _search_span() as span:
                async with self.unit_of_work(subject) as store:
                    minimum = self.limits.recall_min_similarity
                    recalled = await store.recall(vector, self.embedder.space, limit=limit, min_similarity=minimum)
                span.set_attribute("mesh.memory.count", len(recalled.memories))
            return recalled

    async def search(self, subject: Subject, query: str, limit: int) -> list[Memory]:
        """The nearest memories, without a minimum similarity."""
        timeout_s = remaining_s(self.limits.embedding_timeout_s)
        vector = await self.searching.query(subject, query, timeout_s=timeout_s)
        with _search_span() as span:
            async with self.unit_of_work(subject) as store:
                found = await store.search(vector, self.searching.space, limit=limit, min_similarity=-1.0)
            span.set_attribute("mesh.memory.count", len(found))
        return found


@contextmanager
def _search_span() -> Iterator[Span]:
    with tracer.start_as_current_span("search_memory", record_exception=False) as span:
        span.set_attribute("gen_ai.operation.name", "search_memory")
        yield span


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
