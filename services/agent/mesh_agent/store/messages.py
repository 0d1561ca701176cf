"""SQL of the messages of threads."""

from collections.abc import Mapping, Sequence
from typing import Final

from asyncpg import Record
from mesh_common.database.statements import Statement
from mesh_common.ids import RunId, ThreadId, UserId, new_id

from mesh_agent.domain.attempts import Claim, InterimMessage
from mesh_agent.domain.threads import Message, Role, ToRemember
from mesh_agent.store import Connection

_MESSAGE: Final = "id, role, content, created_at, run_id, is_partial, agent, position, part"


async def list_messages(
    connection: Connection,
    user_id: UserId,
    thread_id: ThreadId,
    *,
    limit: int,
    max_bytes: int,
    after: tuple[int, int] | None,
) -> Sequence[tuple[Message | None, tuple[int, int]]]:
    """Oldest first, each with its (run's position, part), to pass as `after` for the next page.

    None stands for a message beyond `max_bytes` of content. The first is always read.
    """
    position, part = after or (None, None)
    parameters = {
        "user_id": user_id,
        "thread_id": thread_id,
        "limit": limit,
        "max_bytes": max_bytes,
        "position": position,
        "part": part,
    }
    statement = _MESSAGES_AFTER if after else _MESSAGES
    rows = await statement.rows(connection, parameters)
    return [(None if row["content"] is None else _message(row), (row["position"], row["part"])) for row in rows]


# The length of a stored text is known without reading it. The message of a resuming run is empty (`starts`).
_LIST_MESSAGES: Final = """
    SELECT {message} FROM (
        SELECT id, role, created_at, run_id, is_partial, agent, position, part,
               CASE WHEN bytes <= :max_bytes::bigint OR bytes = octet_length(content) THEN content END AS content
        FROM (
            SELECT id, role, content, created_at, run_id, is_partial, agent, position, part,
                   sum(octet_length(content)) OVER (
                       ORDER BY position, part ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
                   ) AS bytes
            FROM agent.messages
            WHERE thread_id = :thread_id AND user_id = :user_id AND (role <> 'user' OR content <> '') {condition}
            ORDER BY position, part LIMIT :limit
        ) AS measured
    ) AS bounded
    ORDER BY position, part
"""
_MESSAGES = Statement("agent.list_messages", _LIST_MESSAGES.format(message=_MESSAGE, condition=""))
_MESSAGES_AFTER = Statement(
    "agent.list_messages_after",
    _LIST_MESSAGES.format(message=_MESSAGE, condition="AND (position, part) > (:position::bigint, :part::bigint)"),
)


async def messages_to_remember(
    connection: Connection, user_id: UserId, thread_id: ThreadId, *, limit: int
) -> Sequence[tuple[ToRemember, int]]:
    """Messages of succeeded runs that were not yet sent to memory, oldest first, each with its run's position."""
    parameters = {"user_id": user_id, "thread_id": thread_id, "limit": limit}
    rows = await TO_REMEMBER.rows(connection, parameters)
    return [(ToRemember(_message(row), row["forget_generation"]), row["position"]) for row in rows]


# An interrupted run is remembered with the run that resumed it and succeeded. The message of a resuming run is empty.
# The position comes from a subquery, which PostgreSQL runs first. In a join with the thread, PostgreSQL compared it
# last, after it had read all of the thread's runs and messages.
TO_REMEMBER = Statement(
    "agent.messages_to_remember",
    """
    SELECT m.id, m.role, m.content, m.created_at, m.run_id, m.is_partial, m.agent, m.position, r.forget_generation
    FROM agent.messages m JOIN agent.runs r ON r.id = m.run_id AND NOT r.is_unremembered AND (
        r.status = 'succeeded' OR r.status = 'interrupted' AND EXISTS (
            SELECT 1 FROM agent.runs resuming WHERE resuming.thread_id = r.thread_id AND resuming.position > r.position
              AND resuming.execution_id = coalesce(r.execution_id, r.id) AND resuming.status = 'succeeded'))
    WHERE (m.role <> 'user' OR m.content <> '') AND m.thread_id = :thread_id AND m.user_id = :user_id
      AND m.position > (SELECT remembered_position FROM agent.threads WHERE id = :thread_id)
    ORDER BY m.position, m.part LIMIT :limit
""",
)


async def set_remembered(connection: Connection, thread_id: ThreadId, position: int) -> None:
    await _SET_REMEMBERED.count(connection, {"thread_id": thread_id, "position": position})


_SET_REMEMBERED = Statement(
    "agent.set_remembered",
    """
    UPDATE agent.threads SET remembered_position = :position
    WHERE id = :thread_id AND remembered_position < :position
""",
)


async def assistant_message(connection: Connection, user_id: UserId, run_id: RunId) -> Message | None:
    row = await _ASSISTANT_MESSAGE.row(connection, {"run_id": run_id, "user_id": user_id})
    return _message(row) if row else None


_ANSWER: Final = """
    SELECT {message} FROM agent.messages WHERE run_id = :run_id AND user_id = :user_id AND role = 'assistant'
"""
_ASSISTANT_MESSAGE = Statement("agent.assistant_message", _ANSWER.format(message=_MESSAGE))


def part_of(earlier: int) -> int:
    """The place in its run of a message with so many before it, besides the user's, which is 0.

    2 is left out: there, the release before writes notes.
    """
    return 1 if earlier == 0 else earlier + 2


async def insert_interim(connection: Connection, claim: Claim, said: Sequence[InterimMessage]) -> None:
    """What the run said before its answer. It has ended in this transaction."""
    each = [
        {
            "id": one.id,
            "run_id": claim.run_id,
            "part": part_of(index),
            "content": one.content,
            "agent": one.agent or None,
        }
        for index, one in enumerate(said)
    ]
    await _INSERT_INTERIM.rows_of_each(connection, each)


_INSERT_INTERIM = Statement(
    "agent.insert_interim",
    """
    INSERT INTO agent.messages (id, org_id, user_id, thread_id, run_id, position, part, role, content, agent)
    SELECT :id, org_id, user_id, thread_id, id, position, :part, 'interim', :content, :agent
    FROM agent.runs WHERE id = :run_id
""",
)


async def insert_notes(connection: Connection, notes: Mapping[RunId, str]) -> None:
    """Adds a note after the messages of each of the runs, which have ended and have none yet."""
    each = [{"id": new_id(), "run_id": run_id, "content": content} for run_id, content in notes.items()]
    await _INSERT_NOTE.rows_of_each(connection, each)


_INSERT_NOTE = Statement(
    "agent.insert_note",
    """
    INSERT INTO agent.messages (id, org_id, user_id, thread_id, run_id, position, part, role, content)
    SELECT :id, org_id, user_id, thread_id, id, position,
           greatest(2, (SELECT max(part) + 1 FROM agent.messages WHERE run_id = :run_id)), 'note', :content
    FROM agent.runs WHERE id = :run_id
      AND NOT EXISTS (SELECT 1 FROM agent.messages WHERE run_id = :run_id AND role = 'note')
    ON CONFLICT DO NOTHING
""",
)


def _message(row: Record) -> Message:
    return Message(
        row["id"],
        Role(row["role"]),
        row["content"],
        row["created_at"],
        RunId(row["run_id"]),
        row["is_partial"],
        row["agent"] or "",
    )
