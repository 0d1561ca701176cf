"""Opens what memory is made of and wires it: the pool, the two models, the worker, the use cases, the server.

Nothing is opened at import time; everything is closed in reverse order when the block ends.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

from mesh_common.grpc_service import Drain, ServiceParts, open_grpc_service
from mesh_common.job_queue import Job, JobQueue
from mesh_common.job_worker import JobWorker
from mesh_common.migrate import newest_revision
from mesh_common.postgres import Database, open_database

from mesh_memory.embedder import open_embedder
from mesh_memory.extractor import open_extractor
from mesh_memory.servicer import PROTO_SERVICE, MemoryServicer, UseCases
from mesh_memory.settings import MemorySettings
from mesh_memory.store import PostgresUnitOfWork, turn_of
from mesh_memory.tables import SCHEMA, jobs
from mesh_memory.usecases import EditMemories, FindMemories, KeepTurn, Limits, Remember

MIGRATIONS: Final = Path(__file__).parent / "migrations"
# Beside the model: two calls to the embedding server and two transactions.
_BESIDES_MODEL_S: Final = 30.0
# With the queue's back-off of at most five minutes: the models may be away for three days before a turn is forgotten.
_MAX_ATTEMPTS: Final = 1_000


@asynccontextmanager
async def open_service(settings: MemorySettings) -> AsyncIterator[Drain]:
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(settings, schema=SCHEMA))
        embedder = await stack.enter_async_context(open_embedder(settings))
        extractor = await stack.enter_async_context(open_extractor(settings))
        unit_of_work = PostgresUnitOfWork(database, JobQueue(jobs))
        limits = _limits(settings)
        keep_turn = KeepTurn(unit_of_work, embedder.patient(), extractor, limits)
        worker = _worker(settings, database, keep_turn)
        servicer = MemoryServicer(
            UseCases(
                FindMemories(unit_of_work, embedder, limits),
                Remember(unit_of_work, worker.wake, limits),
                EditMemories(unit_of_work, embedder, limits),
            )
        )
        parts = ServiceParts(
            service=SCHEMA,
            proto_services=(PROTO_SERVICE,),
            register=servicer.add_to,
            readiness=(partial(database.not_ready_reason, newest_revision(MIGRATIONS)),),
            background=(worker.run,),
        )
        yield await stack.enter_async_context(open_grpc_service(settings, parts))


def _worker(settings: MemorySettings, database: Database, keep_turn: KeepTurn) -> JobWorker:
    async def handle(job: Job) -> None:
        await keep_turn(job.user_id, turn_of(job.payload))

    return JobWorker(
        database,
        JobQueue(jobs),
        handle,
        name=SCHEMA,
        concurrency=settings.extraction_concurrency,
        timeout_s=settings.extraction_timeout_s * settings.extraction_tries + _BESIDES_MODEL_S,
        max_attempts=_MAX_ATTEMPTS,
    )


def _limits(settings: MemorySettings) -> Limits:
    return Limits(
        recall_timeout_s=settings.recall_timeout_s,
        embedding_timeout_s=settings.embedding_timeout_s,
        recall_min_similarity=settings.recall_min_similarity,
        duplicate_similarity=settings.duplicate_similarity,
        max_memories=settings.max_memories_per_user,
        max_queued_turns=settings.max_queued_turns_per_user,
    )
