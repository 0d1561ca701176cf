"""A job queue in a service's own schema: `FOR UPDATE SKIP LOCKED`, leases, back-off.

It is not a library (docs/adr/0002) because it must follow the schema's roles and row-level security, be written in the
same transaction as the row it concerns, and carry the subject and the trace. A job survives `kill -9` of its worker:
its lease expires and another worker claims it. Handlers must therefore be idempotent.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from mesh_common.database.statements import AnyConnection, to_json
from mesh_common.ids import new_id
from mesh_common.jobs.queue_sql import JobStatements
from mesh_common.process.telemetry import carried_context
from mesh_common.subject import Subject

# 1 s, 2 s, 4 s … up to 5 minutes: soon enough for a callee that restarts, and no hammering of one that is down.
_BACKOFF_BASE_S = 1.0
_BACKOFF_MAX_S = 300.0
# Far above the longest back-off, far below the range of a float.
_MAX_DOUBLINGS = 30
_MAX_DELAYS = 10


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to queue, due in `delay_s`. Of the subject, only the organisation and the user are stored."""

    kind: str
    key: str
    subject: Subject
    payload: dict[str, Any]
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Job:
    """One claimed job. `attempt` counts from 1; `trace_context` holds the W3C headers of the call that queued it."""

    id: UUID
    kind: str
    subject: Subject
    payload: dict[str, Any]
    trace_context: dict[str, str]
    attempt: int
    version: int
    """How often the job was renewed while it was queued."""
    paid_calls: int = 0
    """How many calls of a model it may have paid for in vain."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """`oldest_due_age_s`: 0.0 if no job is due. `unknown_jobs`: due jobs of kinds that the caller does not know."""

    oldest_due_age_s: float
    dead_letters: int
    unknown_jobs: int


class JobQueue:
    """One queue. Every method runs inside the caller's unit of work and commits nothing."""

    def __init__(self, table: str) -> None:
        """`table` is the table's name with its schema."""
        self.table = table
        self._sql = JobStatements.of(table)

    async def add(self, connection: AnyConnection, job: NewJob) -> bool:
        """Queues a job. False, without any change, if one with this (kind, key) is already queued."""
        return await self._sql.add.count(connection, _parameters(job)) == 1

    async def renew(self, connection: AnyConnection, jobs: Sequence[NewJob]) -> None:
        """Queues jobs, or postpones queued ones to `delay_s` from now (debounce), in one round trip.

        A job is postponed until at most ten delays after its creation. A job renewed while it is being processed is
        processed once more. A job in back-off keeps its due time. A dead letter becomes a new job.
        """
        await self._sql.renew.rows_of_each(
            connection, [{**_parameters(job), "longest_s": job.delay_s * _MAX_DELAYS} for job in jobs]
        )

    async def claim(
        self, connection: AnyConnection, kinds: Collection[str], *, limit: int, lease_s: float
    ) -> Sequence[Job]:
        """Up to `limit` due jobs of these kinds, oldest first, leased to the caller. Needs the worker role."""
        rows = await self._sql.claim.rows(connection, {"kinds": list(kinds), "limit": limit, "lease_s": lease_s})
        return [Job(id_, kind, Subject(org, user), *others) for id_, kind, org, user, *others in rows]

    async def finish(self, connection: AnyConnection, jobs: Sequence[Job]) -> int:
        """Deletes jobs from the queue, or makes them due again if they were renewed meanwhile. Returns how many were.

        Ignores a job that was deleted or whose lease another worker has taken over.
        """
        # The same order for everyone who locks several rows, so that they cannot deadlock.
        done = [
            {"id": job.id, "attempt": job.attempt, "version": job.version}
            for job in sorted(jobs, key=lambda job: job.id)
        ]
        deleted = {row["id"] for row in await self._sql.finish.rows_of_each(connection, done)}
        remaining = [each for each in done if each["id"] not in deleted]
        return len(await self._sql.begin_anew.rows_of_each(connection, remaining)) if remaining else 0

    async def retry_later(
        self,
        connection: AnyConnection,
        job: Job,
        reason: str | None = None,
        *,
        at_least_s: float = 0.0,
        paid_calls: int = 0,
    ) -> None:
        """Releases the job, due after a back-off that doubles with each attempt, and not before `at_least_s`.

        `reason`: why it failed. `paid_calls`: how many calls it may have paid for in vain, with this attempt.
        """
        delay_s = min(_BACKOFF_BASE_S * 2 ** min(job.attempt - 1, _MAX_DOUBLINGS), _BACKOFF_MAX_S)
        parameters = {
            "id": job.id,
            "attempt": job.attempt,
            "delay_s": max(delay_s, at_least_s),
            "reason": reason,
            "paid_calls": paid_calls,
        }
        await self._sql.retry_later.count(connection, parameters)

    async def bury(self, connection: AnyConnection, job: Job, reason: str, *, retry_for_s: float) -> bool:
        """Makes the job a dead letter if it has been due for `retry_for_s` or longer. False if it has not."""
        parameters = {"id": job.id, "attempt": job.attempt, "reason": reason, "retry_for_s": retry_for_s}
        return await self._sql.bury.row(connection, parameters) is not None

    async def backlog(self, connection: AnyConnection, kinds: Collection[str]) -> Backlog:
        """What is in the queue, for a worker that knows `kinds`. Needs the worker role.

        A job's age counts from the time it was first due, because an alert must also cover jobs in back-off.
        """
        [row] = await self._sql.backlog.rows(connection, {"kinds": list(kinds)})
        return Backlog(float(row["oldest_due_age_s"] or 0.0), row["dead_letters"], row["unknown_jobs"])


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
