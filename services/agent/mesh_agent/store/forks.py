"""SQL that copies the beginning of a thread into another one: messages, and the ended runs that they belong to.

A copied run has no usage, no events, no plan and no idempotency key: it is not billed, replayed or resumed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from mesh_common.database.statements import Statement
from mesh_common.ids import ThreadId, UserId, new_id

from mesh_agent.store import Connection


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message is in its thread. `is_ended` says whether its run has ended."""

    position: int
    part: int
    is_ended: bool


@dataclass(frozen=True, slots=True)
class Said:
    """A message to be copied, without its text."""

    id: UUID
    run_id: UUID
    size_bytes: int


async def place_of(
    connection: Connection, user_id: UserId, thread_id: ThreadId, message_id: UUID | None
) -> Place | None:
    """The place of the message, or of the last one of an ended run. None if there is no such message."""
    parameters = {"user_id": user_id, "thread_id": thread_id, "message_id": message_id}
    row = await (_PLACE_OF_LAST if message_id is None else _PLACE).row(connection, parameters)
    return Place(row["position"], row["part"], row["is_ended"]) if row else None


_PLACES: Final = """
    SELECT m.position, m.part, r.status NOT IN ('pending', 'running') AS is_ended
    FROM agent.messages m JOIN agent.runs r ON r.id = m.run_id
    WHERE m.thread_id = :thread_id AND m.user_id = :user_id AND {condition}
"""
_PLACE: Final = Statement("agent.place_of_message", _PLACES.format(condition="m.id = :message_id"))
_PLACE_OF_LAST: Final = Statement(
    "agent.place_of_last_message",
    _PLACES.format(condition="r.status NOT IN ('pending', 'running') ORDER BY m.position DESC, m.part DESC LIMIT 1"),
)


async def messages_until(
    connection: Connection, user_id: UserId, thread_id: ThreadId, place: Place, *, limit: int
) -> Sequence[Said]:
    """The first messages of the thread up to the place, oldest first, without those of runs that have not ended."""
    parameters = {
        "user_id": user_id,
        "thread_id": thread_id,
        "position": place.position,
        "part": place.part,
        "limit": limit,
    }
    return [Said(row["id"], row["run_id"], row["bytes"]) for row in await _UNTIL.rows(connection, parameters)]


_UNTIL: Final = Statement(
    "agent.messages_until",
    """
    SELECT m.id, m.run_id, octet_length(m.content) AS bytes
    FROM agent.messages m JOIN agent.runs r ON r.id = m.run_id
    WHERE m.thread_id = :thread_id AND m.user_id = :user_id AND r.status NOT IN ('pending', 'running')
      AND (m.position, m.part) <= (:position::bigint, :part::bigint)
    ORDER BY m.position, m.part LIMIT :limit
""",
)


async def copy_into(connection: Connection, user_id: UserId, thread_id: ThreadId, said: Sequence[Said]) -> None:
    """Copies the messages and their runs, in this order, into the new thread. They count as remembered there."""
    new_runs = {run_id: new_id() for run_id in dict.fromkeys(one.run_id for one in said)}
    runs = {
        "user_id": user_id,
        "thread_id": thread_id,
        "old_ids": list(new_runs),
        "new_ids": list(new_runs.values()),
    }
    copied = await _COPY_RUNS.rows(connection, runs)
    messages = {
        "user_id": user_id,
        "thread_id": thread_id,
        "old_ids": [one.id for one in said],
        "new_ids": [new_id() for _ in said],
        "run_ids": [new_runs[one.run_id] for one in said],
    }
    await _COPY_MESSAGES.count(connection, messages)
    remembered = {"thread_id": thread_id, "position": max(row["position"] for row in copied)}
    await _SET_REMEMBERED.count(connection, remembered)


# Positions are given in the order of the rows.
_COPY_RUNS: Final = Statement(
    "agent.copy_runs",
    """
    INSERT INTO agent.runs (id, user_id, thread_id, status, attempt, model, metadata, created_at, started_at, ended_at,
                            finish_reason, assistant, assistant_version, assistant_id)
    SELECT copied.id, r.user_id, :thread_id, r.status, r.attempt, r.model, r.metadata, r.created_at, r.started_at,
           r.ended_at, r.finish_reason, r.assistant, r.assistant_version, r.assistant_id
    FROM unnest(:old_ids::uuid[], :new_ids::uuid[]) AS copied (old_id, id)
    JOIN agent.runs r ON r.id = copied.old_id AND r.user_id = :user_id
    ORDER BY r.position
    RETURNING position
""",
)
_COPY_MESSAGES: Final = Statement(
    "agent.copy_messages",
    """
    INSERT INTO agent.messages (id, user_id, thread_id, run_id, position, part, role, content, is_partial,
                                agent, created_at)
    SELECT copied.id, m.user_id, :thread_id, r.id, r.position, m.part, m.role, m.content, m.is_partial,
           m.agent, m.created_at
    FROM unnest(:old_ids::uuid[], :new_ids::uuid[], :run_ids::uuid[]) AS copied (old_id, id, run_id)
    JOIN agent.messages m ON m.id = copied.old_id AND m.user_id = :user_id
    JOIN agent.runs r ON r.id = copied.run_id
""",
)
_SET_REMEMBERED: Final = Statement(
    "agent.set_fork_remembered", "UPDATE agent.threads SET remembered_position = :position WHERE id = :thread_id"
)
