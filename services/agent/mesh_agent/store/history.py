"""SQL of a thread's history: the messages before a run, newest first, as far back as a window can reach.

Bounded by number and by bytes: sixty of the longest answers would be 30 MB, of which a model reads a part of the first.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from mesh_common.database.statements import Statement

from mesh_agent.domain.attempts import Claim
from mesh_agent.domain.threads import Role, Said
from mesh_agent.store import Connection

# A window of 2,000 tokens rarely holds more than 40 messages; the thread itself may have thousands.
_MAX_MESSAGES: Final = 60
# More than the context of most models. The first message is read however long it is.
_MAX_BYTES: Final = 1_048_576
_SQL: Final = """
    SELECT {said} FROM (
        SELECT role, content, position, part,
               sum(octet_length(content)) OVER (
                   ORDER BY position DESC, part DESC ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
               ) AS bytes
        FROM agent.messages
        WHERE thread_id = {run}thread_id AND user_id = {run}user_id AND position < {run}position AND content <> ''
        ORDER BY position DESC, part DESC LIMIT {limit}
    ) AS measured
    WHERE bytes <= {bytes} OR bytes = octet_length(content)
    ORDER BY position DESC, part DESC
"""
_BOUNDS: Final = {"limit": _MAX_MESSAGES, "bytes": _MAX_BYTES}
OF_CLAIMED: Final = f"ARRAY({_SQL.format(said='ARRAY[role, content]', run='r.', **_BOUNDS)})"
"""Expression for a statement that claims the run `r`: pairs of role and content, for `said`."""
_HISTORY: Final = Statement("agent.history", _SQL.format(said="role, content", run=":", **_BOUNDS))
_ROLES: Final = {role.value: role for role in (Role.USER, Role.INTERIM, Role.ASSISTANT, Role.NOTE)}


async def history_of(connection: Connection, claim: Claim) -> tuple[Said, ...]:
    parameters = {"user_id": claim.user_id, "thread_id": claim.thread_id, "position": claim.position}
    return said(await _HISTORY.rows(connection, parameters))


async def last_agent(connection: Connection, claim: Claim) -> str:
    """The agent of a team that wrote the last answer before this run; empty for the thread's own assistant."""
    parameters = {"user_id": claim.user_id, "thread_id": claim.thread_id, "position": claim.position}
    row = await _LAST_AGENT.row(connection, parameters)
    return (row["agent"] or "") if row else ""


_LAST_AGENT: Final = Statement(
    "agent.last_agent",
    """
    SELECT agent FROM agent.messages
    WHERE thread_id = :thread_id AND user_id = :user_id AND position < :position AND role = 'assistant'
    ORDER BY position DESC, part DESC LIMIT 1
""",
)


def said(pairs: Iterable[Sequence[str]]) -> tuple[Said, ...]:
    return tuple(Said(_ROLES[role], content) for role, content in pairs if role in _ROLES)
