"""Dead letters: jobs that failed for days. They stay in the queue's table, never due, until someone sends them again.

In the table of the queue, so that they have its row-level security, and everything that deletes a user's or a thread's
jobs deletes them too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from mesh_common.database.statements import AnyConnection, Statement
from mesh_common.jobs.queue_sql import DEAD
from mesh_common.jobs.settings import JobLimits

# Deleted in one transaction. A longer outage can leave a hundred times as many.
_EXPIRED_PER_PASS: Final = 1_000
_LIST: Final = f"""
    SELECT id, kind, user_id, reason, created_at, failed_at FROM {{table}}
    WHERE {DEAD} AND (:kind::text IS NULL OR kind = :kind) AND (:id::uuid IS NULL OR id = :id)
      AND (:failed_at::timestamptz IS NULL OR (failed_at, id) < (:failed_at, :after_id::uuid))
    ORDER BY failed_at DESC, id DESC LIMIT :limit
"""  # noqa: S608 - our own condition
_SEND_AGAIN: Final = f"""
    UPDATE {{table}} SET due_at = now(), first_due_at = now()
    WHERE {DEAD} AND (:kind::text IS NULL OR kind = :kind) AND (:id::uuid IS NULL OR id = :id)
"""  # noqa: S608 - our own condition
_EXPIRE: Final = f"""
    WITH kept AS (
        SELECT id, failed_at, row_number() OVER (ORDER BY failed_at DESC, id DESC) AS place FROM {{table}} WHERE {DEAD}
    ), expired AS (
        SELECT dead.id FROM {{table}} AS dead JOIN kept ON kept.id = dead.id
        WHERE kept.place > :max_dead OR kept.failed_at < now() - make_interval(secs => :keep_dead_s)
        LIMIT :limit FOR UPDATE OF dead SKIP LOCKED
    )
    DELETE FROM {{table}} AS job USING expired WHERE job.id = expired.id AND job.{DEAD}
"""  # noqa: S608 - our own condition


type Place = tuple[datetime, UUID]
"""The place of a letter in the list: when it failed last, and its id."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A job that was given up, without its payload: the payload may hold a user's texts."""

    id: UUID
    kind: str
    user_id: UUID
    reason: str
    queued_at: datetime
    failed_at: datetime

    @property
    def place(self) -> Place:
        return self.failed_at, self.id


@dataclass(frozen=True, slots=True)
class Selection:
    """All dead letters, or those of one kind, or one."""

    kind: str | None = None
    id: UUID | None = None


EVERY: Final = Selection()


class DeadLetters:
    """The dead letters of one queue. Needs the worker role."""

    def __init__(self, table: str) -> None:
        """`table` is the table's name with its schema."""
        self._list = Statement(f"{table}.dead_letters", _LIST.replace("{table}", table))
        self._send_again = Statement(f"{table}.send_again", _SEND_AGAIN.replace("{table}", table))
        self._expire = Statement(f"{table}.expire", _EXPIRE.replace("{table}", table))

    async def page(
        self, connection: AnyConnection, selection: Selection, *, limit: int, after: Place | None = None
    ) -> Sequence[DeadLetter]:
        """Last failed first. `after`: the place of the last letter of the page before."""
        parameters = {
            "kind": selection.kind,
            "id": selection.id,
            "limit": limit,
            "failed_at": after and after[0],
            "after_id": after and after[1],
        }
        return [DeadLetter(*row) for row in await self._list.rows(connection, parameters)]

    async def send_again(self, connection: AnyConnection, selection: Selection) -> int:
        """Makes them due, with the whole time for retries. Returns how many there were."""
        return await self._send_again.count(connection, {"kind": selection.kind, "id": selection.id})

    async def expire(self, connection: AnyConnection, limits: JobLimits) -> int:
        """Deletes one batch of those that are older or more than `limits` allow. Returns how many."""
        parameters = {
            "max_dead": limits.max_dead,
            "keep_dead_s": limits.keep_dead_s,
            "limit": _EXPIRED_PER_PASS,
        }
        return await self._expire.count(connection, parameters)
