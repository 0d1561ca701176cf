"""SQL of threads and for reading their messages."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from mesh_common.database.statements import Statement, to_json
from mesh_common.ids import RunId, ThreadId, UserId
from sqlalchemy import Row, delete, func, select, text, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mesh_agent.domain import Message, Metadata, Role, Thread
from mesh_agent.store.checkpoints import forget_thread
from mesh_agent.tables import leases, messages, threads

_THREAD = (threads.c.id, threads.c.title, threads.c.metadata, threads.c.created_at, threads.c.updated_at)
_MESSAGE = (
    messages.c.id,
    messages.c.role,
    messages.c.content,
    messages.c.created_at,
    messages.c.run_id,
    messages.c.is_partial,
    messages.c.position,
    messages.c.part,
)


async def insert_thread(
    connection: AsyncConnection,
    user_id: UserId,
    thread_id: ThreadId,
    *,
    title: str = "",
    metadata: Metadata | None = None,
    idempotency_key: str | None = None,
    request_hash: bytes | None = None,
) -> Thread | None:
    """Creates a thread. None, and nothing changes, if the user has one with this idempotency key."""
    parameters = {
        "id": thread_id,
        "user_id": user_id,
        "title": title,
        "metadata": to_json(metadata or {}),
        "idempotency_key": idempotency_key,
        "request_hash": request_hash,
    }
    row = await _INSERT_THREAD.row(connection, parameters)
    return Thread(thread_id, title, metadata or {}, row["created_at"], row["updated_at"]) if row else None


_INSERT_THREAD = Statement(
    "agent.insert_thread",
    """
    INSERT INTO agent.threads (id, user_id, title, metadata, idempotency_key, request_hash)
    VALUES (:id, :user_id, :title, :metadata, :idempotency_key, :request_hash)
    ON CONFLICT (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING created_at, updated_at
""",
)


async def thread_by_key(connection: AsyncConnection, user_id: UserId, key: str) -> tuple[Thread, bytes] | None:
    """The thread created with an idempotency key, and the hash of the request that created it."""
    statement = select(*_THREAD, threads.c.request_hash).where(
        threads.c.user_id == user_id, threads.c.idempotency_key == key
    )
    row = (await connection.execute(statement)).one_or_none()
    return (_thread(row), bytes(row.request_hash)) if row else None


async def get_thread(connection: AsyncConnection, user_id: UserId, thread_id: ThreadId) -> Thread | None:
    statement = select(*_THREAD).where(threads.c.id == thread_id, threads.c.user_id == user_id)
    row = (await connection.execute(statement)).one_or_none()
    return _thread(row) if row else None


async def lock_thread(connection: AsyncConnection, user_id: UserId, thread_id: ThreadId) -> bool:
    """Whether the user has the thread. Other starts on it wait until this transaction ends."""
    mine = {"thread_id": thread_id, "user_id": user_id}
    return await _LOCK_THREAD.row(connection, mine) is not None


_LOCK_THREAD = Statement(
    "agent.lock_thread",
    "SELECT id FROM agent.threads WHERE id = :thread_id AND user_id = :user_id FOR NO KEY UPDATE",
)


async def list_threads(
    connection: AsyncConnection, user_id: UserId, *, limit: int, after: tuple[datetime, UUID] | None, query: str | None
) -> Sequence[Thread]:
    """Last used first. `query` selects those whose title contains it, ignoring case."""
    statement = select(*_THREAD).where(threads.c.user_id == user_id)
    if after:
        statement = statement.where(tuple_(threads.c.updated_at, threads.c.id) < after)
    if query:
        statement = statement.where(threads.c.title.icontains(query, autoescape=True))
    ordered = statement.order_by(threads.c.updated_at.desc(), threads.c.id.desc()).limit(limit)
    return [_thread(row) for row in await connection.execute(ordered)]


async def update_thread(
    connection: AsyncConnection, user_id: UserId, thread_id: ThreadId, *, title: str | None, metadata: Metadata | None
) -> Thread | None:
    values: dict[str, Any] = {"updated_at": func.clock_timestamp()}
    if title is not None:
        values["title"] = title
    if metadata is not None:
        values["metadata"] = metadata
    statement = (
        update(threads)
        .where(threads.c.id == thread_id, threads.c.user_id == user_id)
        .values(values)
        .returning(*_THREAD)
    )
    row = (await connection.execute(statement)).one_or_none()
    return _thread(row) if row else None


async def delete_thread(connection: AsyncConnection, user_id: UserId, thread_id: ThreadId) -> dict[RunId, str] | None:
    """Deletes the thread with its messages, runs, leases, checkpoints and jobs. Returns the addresses of its runs'
    owners; None if the user has no such thread.

    Locks rows in the same order as the end of a run (run, thread, lease), so that the two cannot deadlock.
    """
    await connection.execute(_LOCK_UNENDED, {"thread_id": thread_id})
    if not await lock_thread(connection, user_id, thread_id):
        return None
    # Lock again, for runs that were added meanwhile. From here on no run is added, and none of these is claimed or
    # stores anything.
    await connection.execute(_LOCK_UNENDED, {"thread_id": thread_id})
    owned = select(leases.c.run_id, leases.c.owner_address).where(leases.c.thread_id == thread_id).with_for_update()
    owners = {RunId(row.run_id): row.owner_address for row in await connection.execute(owned)}
    await forget_thread(connection, thread_id)
    await connection.execute(_DELETE_OUTBOX, {"thread_id": str(thread_id)})
    await connection.execute(delete(threads).where(threads.c.id == thread_id, threads.c.user_id == user_id))
    return owners


_LOCK_UNENDED = text("""
    SELECT id FROM agent.runs WHERE thread_id = :thread_id AND status IN ('pending', 'running')
    ORDER BY position FOR UPDATE
""")
# Usage is billed even if the thread is deleted. Jobs that would remember or judge it are deleted.
_DELETE_OUTBOX = text("""
    DELETE FROM agent.outbox WHERE kind <> 'record_usage' AND payload ->> 'thread_id' = :thread_id
""")


async def list_messages(
    connection: AsyncConnection, user_id: UserId, thread_id: ThreadId, *, limit: int, after: tuple[int, int] | None
) -> Sequence[tuple[Message, tuple[int, int]]]:
    """Oldest first, each with its (run's position, part), to pass as `after` for the next page."""
    statement = select(*_MESSAGE).where(messages.c.thread_id == thread_id, messages.c.user_id == user_id)
    if after:
        statement = statement.where(tuple_(messages.c.position, messages.c.part) > after)
    ordered = statement.order_by(messages.c.position, messages.c.part).limit(limit)
    return [(_message(row), (row.position, row.part)) for row in await connection.execute(ordered)]


async def messages_to_remember(
    connection: AsyncConnection, user_id: UserId, thread_id: ThreadId, *, limit: int
) -> Sequence[tuple[Message, int]]:
    """Messages of succeeded runs that were not yet sent to memory, oldest first, each with its run's position."""
    parameters = {"user_id": user_id, "thread_id": thread_id, "limit": limit}
    rows = await TO_REMEMBER.rows(connection, parameters)
    return [(Message(id_, Role(role), *others), position) for id_, role, *others, position in rows]


# The position comes from a subquery, which PostgreSQL runs first. In a join with the thread, PostgreSQL compared it
# last, after it had read all of the thread's runs and messages.
TO_REMEMBER = Statement(
    "agent.messages_to_remember",
    """
    SELECT m.id, m.role, m.content, m.created_at, m.run_id, m.is_partial, m.position
    FROM agent.messages m JOIN agent.runs r ON r.id = m.run_id AND r.status = 'succeeded'
    WHERE m.thread_id = :thread_id AND m.user_id = :user_id
      AND m.position > (SELECT remembered_position FROM agent.threads WHERE id = :thread_id)
    ORDER BY m.position, m.part LIMIT :limit
""",
)


async def set_remembered(connection: AsyncConnection, thread_id: ThreadId, position: int) -> None:
    await _SET_REMEMBERED.count(connection, {"thread_id": thread_id, "position": position})


_SET_REMEMBERED = Statement(
    "agent.set_remembered",
    """
    UPDATE agent.threads SET remembered_position = :position
    WHERE id = :thread_id AND remembered_position < :position
""",
)


async def assistant_message(connection: AsyncConnection, user_id: UserId, run_id: RunId) -> Message | None:
    statement = select(*_MESSAGE).where(
        messages.c.run_id == run_id, messages.c.user_id == user_id, messages.c.role == Role.ASSISTANT
    )
    row = (await connection.execute(statement)).one_or_none()
    return _message(row) if row else None


def _thread(row: Row[Any]) -> Thread:
    return Thread(ThreadId(row.id), row.title, row.metadata, row.created_at, row.updated_at)


def _message(row: Row[Any]) -> Message:
    return Message(row.id, Role(row.role), row.content, row.created_at, RunId(row.run_id), row.is_partial)
