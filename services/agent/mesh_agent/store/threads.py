"""SQL of threads and for reading their messages."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from asyncpg import Record
from mesh_common.database.statements import Statement, to_json
from mesh_common.ids import RunId, ThreadId, UserId

from mesh_agent.domain.threads import Metadata, Thread
from mesh_agent.store import Connection
from mesh_agent.store.checkpoints import forget_thread

_THREAD: Final = "id, title, metadata, created_at, updated_at, assistant"


async def insert_thread(
    connection: Connection,
    user_id: UserId,
    thread_id: ThreadId,
    *,
    title: str = "",
    metadata: Metadata | None = None,
    idempotency_key: str | None = None,
    request_hash: bytes | None = None,
    assistant: str | None = None,
) -> Thread | None:
    """Creates a thread. None, and nothing changes, if the user has one with this idempotency key."""
    parameters = {
        "id": thread_id,
        "user_id": user_id,
        "title": title,
        "metadata": to_json(metadata or {}),
        "idempotency_key": idempotency_key,
        "request_hash": request_hash,
        "assistant": assistant,
    }
    row = await _INSERT_THREAD.row(connection, parameters)
    return Thread(thread_id, title, metadata or {}, row["created_at"], row["updated_at"]) if row else None


_INSERT_THREAD = Statement(
    "agent.insert_thread",
    """
    INSERT INTO agent.threads (id, user_id, title, metadata, idempotency_key, request_hash, assistant)
    VALUES (:id, :user_id, :title, :metadata, :idempotency_key, :request_hash, :assistant)
    ON CONFLICT (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING created_at, updated_at
""",
)


async def thread_by_key(connection: Connection, user_id: UserId, key: str) -> tuple[Thread, bytes] | None:
    """The thread created with an idempotency key, and the hash of the request that created it."""
    row = await _BY_KEY.row(connection, {"user_id": user_id, "key": key})
    return (_thread(row), row["request_hash"]) if row else None


async def get_thread(connection: Connection, user_id: UserId, thread_id: ThreadId) -> Thread | None:
    row = await _GET.row(connection, {"thread_id": thread_id, "user_id": user_id})
    return _thread(row) if row else None


_ONE: Final = "SELECT {columns} FROM agent.threads WHERE user_id = :user_id AND {condition}"
_BY_KEY = Statement(
    "agent.thread_by_key", _ONE.format(columns=f"{_THREAD}, request_hash", condition="idempotency_key = :key")
)
_GET = Statement("agent.get_thread", _ONE.format(columns=_THREAD, condition="id = :thread_id"))


@dataclass(frozen=True, slots=True)
class LockedThread:
    """`assistant` as in `Thread`."""

    assistant: str


async def lock_thread(connection: Connection, user_id: UserId, thread_id: ThreadId) -> LockedThread | None:
    """None if the user has no such thread. Other starts on it wait until this transaction ends."""
    row = await _LOCK_THREAD.row(connection, {"thread_id": thread_id, "user_id": user_id})
    return LockedThread(row["assistant"] or "") if row else None


_LOCK_THREAD = Statement(
    "agent.lock_thread",
    "SELECT assistant FROM agent.threads WHERE id = :thread_id AND user_id = :user_id FOR NO KEY UPDATE",
)


async def set_assistant(connection: Connection, thread_id: ThreadId, assistant: str) -> None:
    """What further runs of the thread use. The thread must be locked."""
    await _SET_ASSISTANT.count(connection, {"thread_id": thread_id, "assistant": assistant})


_SET_ASSISTANT = Statement(
    "agent.set_assistant_of_thread", "UPDATE agent.threads SET assistant = :assistant WHERE id = :thread_id"
)


async def list_threads(
    connection: Connection, user_id: UserId, *, limit: int, after: tuple[datetime, UUID] | None, query: str | None
) -> Sequence[Thread]:
    """Last used first. `query` selects those whose title contains it, ignoring case."""
    updated_at, id_ = after or (None, None)
    parameters = {
        "user_id": user_id,
        "limit": limit,
        "updated_at": updated_at,
        "id": id_,
        "query": _escaped(query or ""),
    }
    statement = _LISTS[bool(after), bool(query)]
    return [_thread(row) for row in await statement.rows(connection, parameters)]


def _escaped(query: str) -> str:
    """For LIKE with the escape character `/`."""
    return query.replace("/", "//").replace("%", "/%").replace("_", "/_")


_LIST: Final = """
    SELECT {thread} FROM agent.threads
    WHERE user_id = :user_id {conditions}
    ORDER BY updated_at DESC, id DESC LIMIT :limit
"""
_AFTER: Final = "AND (updated_at, id) < (:updated_at, :id)"
_MATCHING: Final = "AND lower(title) LIKE '%' || lower(:query::text) || '%' ESCAPE '/'"
# By (with a position, with a query).
_LISTS: Final = {
    (False, False): Statement("agent.list_threads", _LIST.format(thread=_THREAD, conditions="")),
    (True, False): Statement("agent.list_threads_after", _LIST.format(thread=_THREAD, conditions=_AFTER)),
    (False, True): Statement("agent.list_threads_matching", _LIST.format(thread=_THREAD, conditions=_MATCHING)),
    (True, True): Statement(
        "agent.list_threads_matching_after", _LIST.format(thread=_THREAD, conditions=f"{_AFTER} {_MATCHING}")
    ),
}


async def update_thread(
    connection: Connection, user_id: UserId, thread_id: ThreadId, *, title: str | None, metadata: Metadata | None
) -> Thread | None:
    """Keeps the title or the metadata if it is None."""
    parameters = {
        "thread_id": thread_id,
        "user_id": user_id,
        "title": title,
        "metadata": None if metadata is None else to_json(metadata),
    }
    row = await _UPDATE.row(connection, parameters)
    return _thread(row) if row else None


_UPDATED: Final = """
    UPDATE agent.threads SET
        title = coalesce(:title, title), metadata = coalesce(:metadata, metadata), updated_at = clock_timestamp()
    WHERE id = :thread_id AND user_id = :user_id
    RETURNING {thread}
"""
_UPDATE = Statement("agent.update_thread", _UPDATED.format(thread=_THREAD))


@dataclass(frozen=True, slots=True)
class DeletedThread:
    """When it was deleted, by the clock of the database, and the addresses of its runs' owners."""

    at: datetime
    owners: dict[RunId, str]


async def delete_thread(connection: Connection, user_id: UserId, thread_id: ThreadId) -> DeletedThread | None:
    """Deletes the thread with its messages, runs, leases, checkpoints and jobs. None if the user has no such thread.

    Locks rows in the same order as the end of a run (run, thread, lease), so that the two cannot deadlock.
    """
    thread = {"thread_id": thread_id}
    await _LOCK_UNENDED.rows(connection, thread)
    if await lock_thread(connection, user_id, thread_id) is None:
        return None
    # Lock again, for runs that were added meanwhile. From here on no run is added, and none of these is claimed or
    # stores anything.
    await _LOCK_UNENDED.rows(connection, thread)
    owners = {RunId(row["run_id"]): row["owner_address"] for row in await _LOCK_OWNERS.rows(connection, thread)}
    await forget_thread(connection, thread_id)
    await _DELETE_OUTBOX.count(connection, {"thread_id": str(thread_id)})
    deleted = await _DELETE.row(connection, {"thread_id": thread_id, "user_id": user_id})
    return DeletedThread(deleted["deleted_at"], owners) if deleted else None


_LOCK_UNENDED = Statement(
    "agent.lock_unended",
    """
    SELECT id FROM agent.runs WHERE thread_id = :thread_id AND status IN ('pending', 'running')
    ORDER BY position FOR UPDATE
""",
)
_LOCK_OWNERS = Statement(
    "agent.lock_owners", "SELECT run_id, owner_address FROM agent.leases WHERE thread_id = :thread_id FOR UPDATE"
)
# Usage is billed even if the thread is deleted. Jobs that would remember or judge it are deleted.
_DELETE_OUTBOX = Statement(
    "agent.delete_outbox",
    "DELETE FROM agent.outbox WHERE kind <> 'record_usage' AND payload ->> 'thread_id' = :thread_id",
)
_DELETE = Statement(
    "agent.delete_thread",
    """
    DELETE FROM agent.threads WHERE id = :thread_id AND user_id = :user_id RETURNING clock_timestamp() AS deleted_at
""",
)


def _thread(row: Record) -> Thread:
    return Thread(
        ThreadId(row["id"]),
        row["title"],
        row["metadata"],
        row["created_at"],
        row["updated_at"],
        row["assistant"] or "",
    )
