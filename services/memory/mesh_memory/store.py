"""The SQL of memory. Every statement filters by user, and row-level security checks the user and the organisation.

Rows get their `org_id` from the transaction.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
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

from mesh_memory.domain import Memory, MemoryId, Message, NewMemory, Origin, Position, Speaker, Turn, Vector, text_hash
from mesh_memory.tables import jobs, memories, remembered_runs

KEEP_TURN: Final = "keep_turn"
# The agent's outbox gives up on a turn long before. After this time, a run sent again would be remembered again.
_RUNS_KEPT: Final = timedelta(days=30)
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
)


# The vector is in subqueries so that it is parsed once. In the generic plan that PostgreSQL caches, a bare cast is
# evaluated for each memory: 13.5 ms instead of 0.8 with a thousand memories.
SEARCH: Final = Statement(
    "memory.search",
    """
    SELECT id, text, origin, run_id, created_at, updated_at,
           1 - (embedding <=> (SELECT :vector::text::vector)) AS similarity
    FROM memory.memories
    WHERE user_id = :user_id AND embedding_model = :space
      AND embedding <=> (SELECT :vector::text::vector) <= :max_distance
    ORDER BY embedding <=> (SELECT :vector::text::vector), id
    LIMIT :limit
    """,
)


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
        statement = select(func.pg_advisory_xact_lock(_LOCK_CLASS, func.hashtext(str(self._user_id))))
        await self._connection.execute(statement)

    async def search(self, vector: Vector, space: str, *, limit: int, min_similarity: float) -> list[Memory]:
        values = {
            "user_id": self._user_id,
            "space": space,
            "vector": orjson.dumps(vector).decode(),
            "max_distance": 1 - min_similarity,
            "limit": limit,
        }
        return [_found(row) for row in await SEARCH.rows(self._connection, values)]

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
        statement = (
            insert(memories)
            .values(
                id=new_id(),
                user_id=self._user_id,
                text=memory.text,
                text_hash=text_hash(memory.text),
                origin=memory.origin.value,
                run_id=memory.run_id,
                embedding_model=memory.space,
                embedding=memory.vector,
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
                updated_at=func.now(),
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
        statement = insert(remembered_runs).values(user_id=self._user_id, run_id=turn.run_id).on_conflict_do_nothing()
        if (await self._connection.execute(statement)).rowcount == 0:
            return False
        key = f"{self._user_id}:{turn.run_id}"
        await self._queue.add(self._connection, NewJob(KEEP_TURN, key, self._subject, turn_payload(turn)))
        return True

    async def count_queued(self) -> int:
        statement = select(func.count()).select_from(jobs).where(jobs.c.user_id == self._user_id)
        return int((await self._connection.execute(statement)).scalar_one())

    async def close_run(self, run_id: UUID) -> bool:
        own = remembered_runs.c.user_id == self._user_id
        is_open = remembered_runs.c.closed_at.is_(None)
        close = update(remembered_runs).where(own, remembered_runs.c.run_id == run_id, is_open)
        was_open = (await self._connection.execute(close.values(closed_at=func.now()))).rowcount == 1
        outdated = delete(remembered_runs).where(own, ~is_open, remembered_runs.c.opened_at < func.now() - _RUNS_KEPT)
        await self._connection.execute(outdated)
        return was_open

    async def drop_queue(self) -> None:
        own = remembered_runs.c.user_id == self._user_id
        close = update(remembered_runs).where(own, remembered_runs.c.closed_at.is_(None))
        await self._connection.execute(close.values(closed_at=func.now()))
        await self._connection.execute(delete(jobs).where(jobs.c.user_id == self._user_id))

    async def _one(self, statement: Any) -> Memory | None:
        row = (await self._connection.execute(statement)).one_or_none()
        return _memory(row) if row else None


def turn_payload(turn: Turn) -> dict[str, Any]:
    """The turn as the queue stores it."""
    messages = [{"speaker": message.speaker.value, "content": message.content} for message in turn.messages]
    return {"run_id": str(turn.run_id), "thread_id": str(turn.thread_id), "messages": messages}


def turn_of(payload: dict[str, Any]) -> Turn:
    messages = tuple(Message(Speaker(message["speaker"]), message["content"]) for message in payload["messages"])
    return Turn(UUID(payload["run_id"]), UUID(payload["thread_id"]), messages)


def _memory(row: Row[Any]) -> Memory:
    return Memory(MemoryId(row.id), row.text, Origin(row.origin), row.run_id, row.created_at, row.updated_at)


def _found(row: Record) -> Memory:
    memory_id, text, origin, run_id, created_at, updated_at, similarity = row
    return Memory(MemoryId(memory_id), text, Origin(origin), run_id, created_at, updated_at, similarity)
