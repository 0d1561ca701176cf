"""Threads and their messages."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import orjson
from mesh_common.cursor import (
    decode_position_cursor,
    decode_time_cursor,
    encode_position_cursor,
    encode_time_cursor,
)
from mesh_common.errors import Conflict, IdempotencyKeyReused, NotFound
from mesh_common.grpc.message_size import MAX_PAGE_BYTES
from mesh_common.ids import ThreadId, new_id
from mesh_common.jobs.queue import JobQueue, NewJob
from mesh_common.subject import Subject

from mesh_agent.domain.threads import Message, Metadata, Thread
from mesh_agent.execution.ending import FORGET_THREAD
from mesh_agent.store import Database, messages, threads
from mesh_agent.usecases.cancel_run import CancelRun
from mesh_agent.usecases.pages import Page, first_page, metadata_bytes, text_bytes

_NO_THREAD: Final = "There is no such thread."


@dataclass(frozen=True, slots=True)
class Threads:
    database: Database
    cancel: CancelRun
    outbox: JobQueue
    wake_outbox: Callable[[], None]

    async def create(self, subject: Subject, title: str, metadata: Metadata, idempotency_key: str | None) -> Thread:
        """Creates a thread, or returns the one created with this key before. Raises IdempotencyKeyReused if that
        request was a different one."""
        digest = request_hash(title=title, metadata=metadata)
        async with self.database.as_subject(subject) as connection:
            thread = await threads.insert_thread(
                connection,
                subject.user_id,
                ThreadId(new_id()),
                title=title,
                metadata=metadata,
                idempotency_key=idempotency_key,
                request_hash=digest,
            )
            if thread:
                return thread
            before = await threads.thread_by_key(connection, subject.user_id, idempotency_key or "")
        if before is None:
            raise Conflict("The thread was deleted at the same time. Try again.")
        if before[1] != digest:
            raise IdempotencyKeyReused("This Idempotency-Key was used with another request.")
        return before[0]

    async def get(self, subject: Subject, thread_id: ThreadId) -> Thread:
        async with self.database.as_subject(subject) as connection:
            thread = await threads.get_thread(connection, subject.user_id, thread_id)
        return _found(thread)

    async def list(self, subject: Subject, *, limit: int, cursor: str | None, query: str | None) -> Page[Thread]:
        after = decode_time_cursor(cursor) if cursor else None
        async with self.database.as_subject(subject) as connection:
            rows = await threads.list_threads(connection, subject.user_id, limit=limit + 1, after=after, query=query)
        page, more = first_page(rows, limit, lambda row: text_bytes(row.title) + metadata_bytes(row.metadata))
        return Page(page, encode_time_cursor(page[-1].updated_at, page[-1].id) if more else None)

    async def update(
        self, subject: Subject, thread_id: ThreadId, *, title: str | None, metadata: Metadata | None
    ) -> Thread:
        async with self.database.as_subject(subject) as connection:
            thread = await threads.update_thread(connection, subject.user_id, thread_id, title=title, metadata=metadata)
        return _found(thread)

    async def delete(self, subject: Subject, thread_id: ThreadId) -> None:
        """Deletes the thread and everything in it.

        The owner stops a run that executes on it. The run can store nothing more, because its lease was deleted with
        the thread. Its usage is billed nevertheless. Memories from the thread are kept; what was said in it and is not
        stored yet never is.
        """
        async with self.database.as_subject(subject) as connection:
            deleted = await threads.delete_thread(connection, subject.user_id, thread_id)
            if deleted is None:
                raise NotFound(_NO_THREAD)
            # Memory may still hold turns of the thread that are not stored, or be about to receive one.
            payload = {"thread_id": str(thread_id), "deleted_at": deleted.at.isoformat()}
            await self.outbox.add(connection, NewJob(FORGET_THREAD, str(thread_id), subject, payload))
        self.wake_outbox()
        self.cancel.discard(subject, deleted.owners)

    async def messages(self, subject: Subject, thread_id: ThreadId, *, limit: int, cursor: str | None) -> Page[Message]:
        position = decode_position_cursor(cursor, 2) if cursor else None
        async with self.database.as_subject(subject) as connection:
            _found(await threads.get_thread(connection, subject.user_id, thread_id))
            rows = await messages.list_messages(
                connection,
                subject.user_id,
                thread_id,
                limit=limit + 1,
                max_bytes=MAX_PAGE_BYTES,
                after=(position[0], position[1]) if position else None,
            )
        page, more = first_page(rows, limit, lambda row: text_bytes(row[0].content) if row[0] else MAX_PAGE_BYTES)
        listed = [message for message, _ in page if message]
        return Page(listed, encode_position_cursor(*page[-1][1]) if more else None)


# Release 0.1.0 hashed these fields, whether given or not. Its hashes are stored, and during an upgrade its replicas run
# next to this release's.
_ALWAYS_HASHED: Final = frozenset({"thread_id", "message", "model", "metadata", "multitask", "on_disconnect", "title"})


def request_hash(**fields: object) -> bytes:
    """Two requests with one idempotency key are the same if their hashes are equal.

    A field added since counts only if it is given. So a request without it has the same hash in all releases, and its
    repeat is recognised during an upgrade. Callers pass None or an empty value for fields that are not given.
    """
    counted = {name: value for name, value in fields.items() if value or name in _ALWAYS_HASHED}
    return hashlib.sha256(orjson.dumps(counted, option=orjson.OPT_SORT_KEYS)).digest()


def _found(thread: Thread | None) -> Thread:
    if thread is None:
        raise NotFound(_NO_THREAD)
    return thread
