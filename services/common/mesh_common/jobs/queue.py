"""A job queue in a service's own schema: `FOR UPDATE SKIP LOCKED`, leases, back-off.

Why not a library (docs/adr/0002): ours must follow the schema's roles and row-level security, be written in the
same transaction as the thing it is about, and carry the subject and the trace. A job survives `kill -9` of its worker:
its lease runs out and another claims it, so handlers are idempotent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Column, DateTime, Integer, MetaData, Table, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.ext.asyncio import AsyncConnection

from mesh_common.database.statements import to_json
from mesh_common.ids import new_id
from mesh_common.jobs.queue_sql import JobStatements
from mesh_common.process.telemetry import carried_context
from mesh_common.subject import Subject

# 1 s, 2 s, 4 s … up to 5 minutes: a callee that restarts is met soon, one that is down is not hammered.
_BACKOFF_BASE_S = 1.0
_BACKOFF_MAX_S = 300.0
# Far beyond the longest back-off, far below what a float can hold.
_MAX_DOUBLINGS = 30
_MAX_DELAYS = 10


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be queued; `delay_s` from now. Of the subject, the organisation and the user are kept."""

    kind: str
    key: str
    subject: Subject
    payload: dict[str, Any]
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Job:
    """One claimed job. `attempt` counts from 1; `trace_context` are the W3C headers of the call that queued it."""

    id: UUID
    kind: str
    subject: Subject
    payload: dict[str, Any]
    trace_context: dict[str, str]
    attempt: int
    version: int
    """Counts how often the job was renewed while it was queued."""


def job_table(metadata: MetaData, name: str = "jobs") -> Table:
    """The table, for a service's `tables.py`; the service's migrations make it."""
    return Table(
        name,
        metadata,
        Column("id", PG_UUID(as_uuid=True), primary_key=True),
        Column("kind", Text, nullable=False),
        Column("key", Text, nullable=False),
        Column("org_id", PG_UUID(as_uuid=True)),
        Column("user_id", PG_UUID(as_uuid=True), nullable=False),
        Column("payload", JSONB, nullable=False),
        Column("trace_context", JSONB, nullable=False),
        Column("attempt", Integer, nullable=False, server_default=text("0")),
        Column("version", Integer, nullable=False, server_default=text("0")),
        Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        Column("due_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        Column("first_due_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        Column("leased_until", DateTime(timezone=True)),
    )


class JobQueue:
    """One queue. Every method runs inside a unit of work of the caller's and commits nothing."""

    def __init__(self, table: Table) -> None:
        self._sql = JobStatements.of(table.fullname)

    async def add(self, connection: AsyncConnection, job: NewJob) -> bool:
        """Queues a job; False when one of this (kind, key) is queued already, which then stays as it is."""
        return await self._sql.add.count(connection, _parameters(job)) == 1

    async def renew(self, connection: AsyncConnection, jobs: Sequence[NewJob]) -> None:
        """Queues jobs, or puts queued ones off by `delay_s` more (debounce), at most to ten delays after their birth.

        All in one round trip.

        A job renewed while it is worked on is worked on once more; one in back-off stays in it.
        """
        await self._sql.renew.rows_of_each(
            connection, [{**_parameters(job), "longest_s": job.delay_s * _MAX_DELAYS} for job in jobs]
        )

    async def claim(self, connection: AsyncConnection, *, limit: int, lease_s: float) -> Sequence[Job]:
        """Up to `limit` due jobs, oldest first, leased to the caller. Needs the worker role."""
        rows = await self._sql.claim.rows(connection, {"limit": limit, "lease_s": lease_s})
        return [Job(id_, kind, Subject(org, user), *others) for id_, kind, org, user, *others in rows]

    async def finish(self, connection: AsyncConnection, jobs: Sequence[Job]) -> int:
        """Takes jobs off the queue; those that were renewed meanwhile are due again instead: how many.

        One whose lease was lost to another worker, or that was deleted, stays as it is.
        """
        # One order for all who lock several.
        done = [
            {"id": job.id, "attempt": job.attempt, "version": job.version}
            for job in sorted(jobs, key=lambda job: job.id)
        ]
        gone = {row["id"] for row in await self._sql.finish.rows_of_each(connection, done)}
        left = [each for each in done if each["id"] not in gone]
        return len(await self._sql.begin_anew.rows_of_each(connection, left)) if left else 0

    async def retry_later(self, connection: AsyncConnection, job: Job) -> None:
        """Gives the job back, due after a back-off that doubles with each attempt."""
        delay_s = min(_BACKOFF_BASE_S * 2 ** min(job.attempt - 1, _MAX_DOUBLINGS), _BACKOFF_MAX_S)
        parameters = {"id": job.id, "attempt": job.attempt, "delay_s": delay_s}
        await self._sql.retry_later.count(connection, parameters)

    async def oldest_due_age_s(self, connection: AsyncConnection) -> float:
        """For how long the oldest job that is not done should have been, in seconds; 0.0 when there is none.

        Counted from when it was due first: a job in back-off waits as well, and it is what an alert is about.
        """
        row = await self._sql.oldest_due_age.row(connection, {})
        return float((row and row["age_s"]) or 0.0)


def _parameters(job: NewJob) -> dict[str, Any]:
    return {
        "id": new_id(),
        "kind": job.kind,
        "key": job.key,
        "org_id": job.subject.organisation_id,
        "user_id": job.subject.user_id,
        "payload": to_json(job.payload),
        "trace_context": to_json(carried_context()),
        "delay_s": float(job.delay_s),
    }
