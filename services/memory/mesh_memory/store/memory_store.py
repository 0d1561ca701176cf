"""The SQL of memory. Every statement filters by user, and row-level security checks the user and the organisation.

Rows get their `org_id` from the transaction.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson
from asyncpg import Record
from mesh_common.database.postgres import Database
from mesh_common.database.statements import Statement
from mesh_common.errors import AlreadyExists
from mesh_common.ids import new_id
from mesh_common.jobs.queue import JobQueue, NewJob
from mesh_common.subject import Subject
from sqlalchemy import ColumnElement, Row, delete, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from mesh_memory.domain import (
    Admission,
    Barrier,
    Memory,
    MemoryId,
    NewMemory,
    Origin,
    Position,
    Recalled,
    Turn,
    Vector,
    text_hash,
)
from mesh_memory.store import forgetting
from mesh_memory.store.queued_turns import KEEP_TURN, turn_payload
from mesh_memory.store.searching import RECALL, SEARCH
from mesh_memory.tables import memories

# Any fixed number; with the hash of the user it forms the key of the advisory lock for one user's memories.
_LOCK_CLASS: Final = 7_310_031
_UNIQUE_VIOLATION: Final = "23505"

_COLUMNS: Final = (
    memories.c.id,
    memories.c.text,
    memories.c.origin,
    memories.c.run_id,
    memories.c.created_at,
    memories.c.updated_at,
    memories.c.thread_id,
    memories.c.message_id,
    memories.c.said_at,
)
_LOCK: Final = Statement("memory.lock", "SELECT pg_advisory_xact_lock(:class::int, hashtext(:user_id::uuid::text))")


class PostgresUnitOfWork:
    def __init__(self, database: Database, queue: JobQueue) -> None:
        self._database = database
        self._queue = queue

    @asynccontextmanager
    async def __call__(self, subject: Subject) -> AsyncIterator["PostgresMemoryStore"]:
        async with self._database.as_subject(subject) as connection:
            yield PostgresMemoryStore(connection, subject, self._queue)


class PostgresMemoryStore:
    def __init__(self, connection: AsyncConnection, subject: Subject, queue: JobQueue) -> None:
        self._connection = connection
        self._subject = subject
        self._user_id = subject.user_id
        self._queue = queue

    @property
    def _own(self) -> ColumnElement[bool]:
        # Built on demand, because a recall does not need it.
        return memories.c.user_id == self._user_id

    async def lock(self) -> None:
        await _LOCK.rows(self._connection, {"class": _LOCK_CLASS, "user_id": self._user_id})

    async def search(self, vector: Vector, space: str, *, limit: int, min_similarity: float) -> list[Memory]:
        values = self._searched(vector, space, limit=limit, min_similarity=min_similarity)
        return [_found(row) for row in await SEARCH.rows(self._connection, values)]

    async def recall(self, vector: Vector, space: str, *, limit: int, min_similarity: float) -> Recalled:
        values = self._searched(vector, space, limit=limit, min_similarity=min_similarity)
        rows = await RECALL.rows(self._connection, values)
        return Recalled([_found(row) for row in rows if row["id"]], rows[0]["generation"])

    def _searched(self, vector: Vector, space: str, *, limit: int, min_similarity: float) -> dict[str, Any]:
        return {
            "user_id": self._user_id,
            "space": space,
            "vector": orjson.dumps(vector).decode(),
            "max_distance": 1 - min_similarity,
            "limit": limit,
        }

    async def page(self, limit: int, after: Position | None) -> list[Memory]:
        key = tuple_(memories.c.created_at, memories.c.id)
        statement = select(*_COLUMNS).where(self._own)
        if after:
            statement = statement.where(key < (after.created_at, after.memory_id))
        statement = statement.order_by(memories.c.created_at.desc(), memories.c.id.desc()).limit(limit)
        return [_memory(row) for row in await self._connection.execute(statement)]

    async def get(self, memory_id: MemoryId) -> Memory | None:
        return await self._one(select(*_COLUMNS).where(self._own, memories.c.id == memory_id))

    async def same_text(self, text: str) -> Memory | None:
        return await self._one(select(*_COLUMNS).where(self._own, memories.c.text_hash == text_hash(text)))

    async def count(self) -> int:
        statement = select(func.count()).select_from(memories).where(self._own)
        return int((await self._connection.execute(statement)).scalar_one())

    async def add(self, memory: NewMemory) -> Memory | None:
        source = memory.source
        statement = (
            insert(memories)
            .values(
                id=new_id(),
                user_id=self._user_id,
                text=memory.text,
                text_hash=text_hash(memory.text),
                origin=memory.origin.value,
                run_id=source and source.run_id,
                thread_id=source and source.thread_id,
                message_id=source and source.message_id,
                said_at=source and source.said_at,
                embedding_model=memory.space,
                embedding=memory.vector,
                # Not the start of the transaction, which may have waited for a deletion: `forgetting.DELETE_LATE`.
                created_at=func.statement_timestamp(),
                updated_at=func.statement_timestamp(),
            )
            .on_conflict_do_nothing(index_elements=["user_id", "text_hash"])
            .returning(*_COLUMNS)
        )
        return await self._one(statement)

    async def change(self, memory_id: MemoryId, text: str, space: str, vector: Vector) -> Memory | None:
        statement = (
            update(memories)
            .where(self._own, memories.c.id == memory_id)
            .values(
                text=text,
                text_hash=text_hash(text),
                embedding_model=space,
                embedding=vector,
                updated_at=func.statement_timestamp(),
            )
            .returning(*_COLUMNS)
        )
        try:
            return await self._one(statement)
        except IntegrityError as error:
            if getattr(error.orig, "sqlstate", None) != _UNIQUE_VIOLATION:
                raise
            raise AlreadyExists("Another memory has the same text.") from error

    async def delete(self, memory_id: MemoryId) -> bool:
        statement = delete(memories).where(self._own, memories.c.id == memory_id)
        return (await self._connection.execute(statement)).rowcount == 1

    async def delete_all(self) -> int:
        return (await self._connection.execute(delete(memories).where(self._own))).rowcount

    async def queue(self, turn: Turn) -> bool:
        if not await forgetting.OPEN_RUN.count(self._connection, {"user_id": self._user_id, "run_id": turn.run_id}):
            return False
        key = f"{self._user_id}:{turn.run_id}"
        await self._queue.add(self._connection, NewJob(KEEP_TURN, key, self._subject, turn_payload(turn)))
        return True

    async def admission(self, thread_id: UUID) -> Admission:
        row = await self._barrier_row(forgetting.ADMISSION, thread_id)
        return Admission(_barrier(row), row["queued"], row["now"])

    async def barrier(self, thread_id: UUID) -> Barrier:
        return _barrier(await self._barrier_row(forgetting.BARRIER, thread_id))

    async def begin_extraction(self, run_id: UUID) -> int | None:
        row = await forgetting.BEGIN_EXTRACTION.row(self._connection, {"user_id": self._user_id, "run_id": run_id})
        return int(row["extractions"]) if row else None

    async def refund_extraction(self, run_id: UUID) -> None:
        await forgetting.REFUND_EXTRACTION.count(self._connection, {"user_id": self._user_id, "run_id": run_id})

    async def close_run(self, run_id: UUID) -> datetime | None:
        row = await forgetting.CLOSE_RUN.row(self._connection, {"user_id": self._user_id, "run_id": run_id})
        return row["opened_at"] if row else None

    async def forget(self) -> None:
        own = {"user_id": self._user_id}
        for statement in (forgetting.RAISE_GENERATION, forgetting.CLOSE_RUNS, forgetting.DROP_QUEUE):
            await statement.count(self._connection, own)

    async def forget_thread(self, thread_id: UUID, deleted_at: datetime | None) -> int:
        values = {"user_id": self._user_id, "thread_id": thread_id, "deleted_at": deleted_at}
        for statement in (forgetting.UNMARK_THREADS, forgetting.MARK_THREAD, forgetting.DROP_THREAD):
            await statement.count(self._connection, values)
        return await forgetting.DELETE_LATE.count(self._connection, values) if deleted_at else 0

    async def _barrier_row(self, statement: Statement, thread_id: UUID) -> Record:
        [row] = await statement.rows(self._connection, {"user_id": self._user_id, "thread_id": thread_id})
        return row

    async def _one(self, statement: Any) -> Memory | None:
        row = (await self._connection.execute(statement)).one_or_none()
        return _memory(row) if row else None


def _memory(row: Row[Any]) -> Memory:
    return Memory(
        MemoryId(row.id),
        row.text,
        Origin(row.origin),
        row.run_id,
        row.created_at,
        row.updated_at,
        thread_id=row.thread_id,
        message_id=row.message_id,
        said_at=row.said_at,
    )


def _found(row: Record) -> Memory:
    return Memory(
        MemoryId(row["id"]),
        row["text"],
        Origin(row["origin"]),
        row["run_id"],
        row["created_at"],
        row["updated_at"],
        row["similarity"],
        row["thread_id"],
        row["message_id"],
        row["said_at"],
    )


def _barrier(row: Record) -> Barrier:
    return Barrier(row["generation"], row["forgotten_at"], row["is_thread_forgotten"])
