"""Opens and wires the parts of memory: the pool, the two models, the worker, the use cases and the server.

Nothing is opened at import time. When the block ends, everything is closed in reverse order.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

from mesh_common.database.postgres import Database
from mesh_common.database.revisions import newest_revision
from mesh_common.database.sqlalchemy_engine import open_database
from mesh_common.grpc.service import Drain, ServiceParts, open_grpc_service
from mesh_common.jobs.queue import Job, JobQueue
from mesh_common.jobs.servicer import PROTO_SERVICE as DEAD_LETTERS
from mesh_common.jobs.servicer import DeadLetterServicer
from mesh_common.jobs.worker import JobWorker

from mesh_memory.embedder import open_embedder
from mesh_memory.ports import Extractor
from mesh_memory.servicer import PROTO_SERVICE, MemoryServicer, UseCases
from mesh_memory.settings import MemorySettings
from mesh_memory.store import KEEP_TURN, PostgresUnitOfWork, turn_of
from mesh_memory.tables import SCHEMA
from mesh_memory.usecases import EditMemories, FairEmbedder, FindMemories, ForgetMemories, KeepTurn, Limits, Remember

MIGRATIONS: Final = Path(__file__).parent / "migrations"
_JOBS: Final = f"{SCHEMA}.jobs"
# In addition to the model's time: two calls to the embedding server and a few transactions.
_BESIDES_MODEL_S: Final = 30.0
# Searches and written memories of all users, at two calls at a time per user.
_CONNECTIONS_BESIDES_RECALL: Final = 16
# A turn in the queue has time, so it waits for an embedding server that restarts.
_PATIENT_TRIES: Final = 3


@asynccontextmanager
async def open_service(settings: MemorySettings) -> AsyncIterator[Drain]:
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(settings, schema=SCHEMA))
        # Connections of their own, so that no other work can keep recall from the embedding server.
        recalling = await stack.enter_async_context(open_embedder(settings))
        asked = FairEmbedder(
            await stack.enter_async_context(open_embedder(settings, connections=_CONNECTIONS_BESIDES_RECALL))
        )
        keeper = await stack.enter_async_context(
            open_embedder(settings, connections=settings.extraction_concurrency, tries=_PATIENT_TRIES)
        )
        unit_of_work = PostgresUnitOfWork(database, JobQueue(_JOBS))
        letters = DeadLetterServicer(database, _JOBS)
        limits = _limits(settings)
        keeping = _Keeping(settings, database, partial(KeepTurn, unit_of_work, keeper, limits=limits))
        servicer = MemoryServicer(
            UseCases(
                FindMemories(unit_of_work, recalling, asked, limits),
                Remember(unit_of_work, keeping.worker.wake, limits),
                EditMemories(unit_of_work, asked, limits),
                ForgetMemories(unit_of_work),
            )
        )
        parts = ServiceParts(
            service=SCHEMA,
            proto_services=(PROTO_SERVICE, DEAD_LETTERS),
            register=letters.beside(servicer.add_to),
            readiness=(partial(database.not_ready_reason, newest_revision(MIGRATIONS)),),
            background=(keeping.run,),
        )
        yield await stack.enter_async_context(open_grpc_service(settings, parts))


class _Keeping:
    """Processes the queued turns.

    Importing mem0 takes as long as all other imports together, so a thread imports it once the service listens. Until
    then Recall is already served, and turns wait in the queue.
    """

    def __init__(
        self, settings: MemorySettings, database: Database, keep_turn: Callable[[Extractor], KeepTurn]
    ) -> None:
        self._settings = settings
        self._keep_turn_with = keep_turn
        self._keep_turn: KeepTurn | None = None
        self.worker = JobWorker(
            database,
            JobQueue(_JOBS),
            {KEEP_TURN: self._keep},
            name=SCHEMA,
            concurrency=settings.extraction_concurrency,
            timeout_s=settings.extraction_timeout_s + _BESIDES_MODEL_S,
            limits=settings.job_limits(),
        )

    async def run(self) -> None:
        open_extractor = await asyncio.to_thread(_import_extractor)
        async with open_extractor(self._settings) as extractor:
            self._keep_turn = self._keep_turn_with(extractor)
            await self.worker.run()

    async def _keep(self, job: Job) -> None:
        if self._keep_turn is None:
            raise RuntimeError("the worker started before the extractor was open")
        await self._keep_turn(job.subject, turn_of(job.payload))


def _import_extractor() -> Callable[[MemorySettings], AbstractAsyncContextManager[Extractor]]:
    from mesh_memory.extraction.extractor import open_extractor  # noqa: PLC0415 - see _Keeping

    return open_extractor


def _limits(settings: MemorySettings) -> Limits:
    return Limits(
        recall_timeout_s=settings.recall_timeout_s,
        embedding_timeout_s=settings.embedding_timeout_s,
        recall_min_similarity=settings.recall_min_similarity,
        duplicate_similarity=settings.duplicate_similarity,
        max_memories=settings.max_memories_per_user,
        max_queued_turns=settings.max_queued_turns_per_user,
        max_extractions=settings.extraction_tries,
    )
