"""Forks threads: a new thread of the same user begins with the messages of another one."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from mesh_common.errors import Conflict, IdempotencyKeyReused, NotFound, PreconditionFailed, TooLarge
from mesh_common.ids import ThreadId, new_id
from mesh_common.subject import Subject

from mesh_agent.domain.threads import Thread
from mesh_agent.store import Connection, Database, forks, threads
from mesh_agent.usecases.threads import request_hash

# Copied in one transaction: some 100 ms, and no more than a few of the longest answers.
MAX_MESSAGES: Final = 2_000
_MAX_BYTES: Final = 16 * 1_048_576
FORKED_FROM: Final = "forked_from"


@dataclass(frozen=True, slots=True)
class ForkThread:
    database: Database

    async def __call__(
        self, subject: Subject, thread_id: ThreadId, message_id: UUID | None, idempotency_key: str | None
    ) -> Thread:
        """A new thread with the messages up to this one, or up to the last ended run, and the same title and
        assistant.

        A repeated request returns the thread that it created before, whatever has become of the other thread.
        Memories are not extracted again from copied messages.

        Raises:
            NotFound: the user has no such thread, or the thread no such message.
            PreconditionFailed: the message belongs to a run that has not ended.
            TooLarge: there are too many messages to copy.
        """
        digest = request_hash(fork=str(thread_id), at=str(message_id or ""))
        async with self.database.as_subject(subject) as connection:
            if before := await _created_before(connection, subject, idempotency_key, digest):
                return before
            source = await threads.get_thread(connection, subject.user_id, thread_id)
            if source is None:
                raise NotFound("There is no such thread.")
            said = await _to_copy(connection, subject, thread_id, message_id)
            fork = await threads.insert_thread(
                connection,
                subject.user_id,
                ThreadId(new_id()),
                title=source.title,
                metadata={FORKED_FROM: str(thread_id)},
                idempotency_key=idempotency_key,
                request_hash=digest,
                assistant=source.assistant or None,
            )
            if fork and said:
                await forks.copy_into(connection, subject.user_id, fork.id, said)
            # The same request, sent twice at the same time: the other one has committed by now.
            fork = fork or await _created_before(connection, subject, idempotency_key, digest)
        if fork is None:
            raise Conflict("The thread was deleted at the same time. Try again.")
        return fork


async def _created_before(
    connection: Connection, subject: Subject, idempotency_key: str | None, digest: bytes
) -> Thread | None:
    if idempotency_key is None:
        return None
    before = await threads.thread_by_key(connection, subject.user_id, idempotency_key)
    if before and before[1] != digest:
        raise IdempotencyKeyReused("This Idempotency-Key was used with another request.")
    return before[0] if before else None


async def _to_copy(
    connection: Connection, subject: Subject, thread_id: ThreadId, message_id: UUID | None
) -> list[forks.Said]:
    place = await forks.place_of(connection, subject.user_id, thread_id, message_id)
    if place is None and message_id:
        raise NotFound("There is no such message in this thread.")
    if place is None:
        return []
    if not place.is_ended:
        raise PreconditionFailed("The run of this message has not ended.", reason="RUN_NOT_ENDED")
    said = await forks.messages_until(connection, subject.user_id, thread_id, place, limit=MAX_MESSAGES + 1)
    if len(said) > MAX_MESSAGES or sum(one.size_bytes for one in said) > _MAX_BYTES:
        raise TooLarge(f"More than {MAX_MESSAGES:,} messages, or {_MAX_BYTES:,} bytes, would be copied.")
    return list(said)
