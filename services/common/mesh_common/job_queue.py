"""A job queue in a service's own schema: `FOR UPDATE SKIP LOCKED`, leases, back-off.

Why not a library (docs/adr/0002): ours must follow the schema's roles and row-level security, be written in the
same transaction as the thing it is about, and carry the user and the trace. A job survives `kill -9` of its worker:
its lease runs out and another claims it, so handlers are idempotent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Column, DateTime, Integer, MetaData, Table, Text, case, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.ext.asyncio import AsyncConnection

from mesh_common.ids import UserId, new_id
from mesh_common.telemetry import carried_context

# 1 s, 2 s, 4 s … up to 5 minutes: a callee that restarts is met soon, one that is down is not hammered.
_BACKOFF_BASE_S = 1.0
_BACKOFF_MAX_S = 300.0
# Far beyond the longest back-off, far below what a float can hold.
_MAX_DOUBLINGS = 30
_MAX_DELAYS = 10


@dataclass(frozen=True, slots=True)
class Job:
    """One claimed job. `attempt` counts from 1; `trace_context` are the W3C headers of the call that queued it."""

    id: UUID
    kind: str
    user_id: UserId
    payload: dict[str, Any]
    trace_context: dict[str, str]
    attempt: int
    version: int
    """Counts how often the job was renewed while it was queued."""


def job_table(metadata: MetaData, name: str = "jobs") -> Table:
    """The table, for a service's `tables.py`; `job_table_sql` makes it in a migration."""
    return Table(
        name,
        metadata,
        Column("id", PG_UUID(as_uuid=True), primary_key=True),
        Column("kind", Text, nullable=False),
        Column("key", Text, nullable=False),
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


def job_table_sql(schema: str, name: str = "jobs") -> tuple[str, ...]:
    """Statements that make the table and its indexes. Unique by (kind, key) while queued; the row goes when done."""
    return (
        f"""
        CREATE TABLE {schema}.{name} (
            id uuid PRIMARY KEY,
            kind text NOT NULL,
            key text NOT NULL,
            user_id uuid NOT NULL,
            payload jsonb NOT NULL,
            trace_context jsonb NOT NULL,
            attempt integer NOT NULL DEFAULT 0,
            version integer NOT NULL DEFAULT 0,
            created_at timestamptz NOT NULL DEFAULT now(),
            due_at timestamptz NOT NULL DEFAULT now(),
            first_due_at timestamptz NOT NULL DEFAULT now(),
            leased_until timestamptz,
            UNIQUE (kind, key)
        )
        """,
        f"CREATE INDEX {name}_due ON {schema}.{name} (due_at)",
        f"CREATE INDEX {name}_user ON {schema}.{name} (user_id)",
    )


class JobQueue:
    """SQL of one queue. Every method runs inside a unit of work of the caller's and commits nothing."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def add(
        self,
        connection: AsyncConnection,
        *,
        kind: str,
        key: str,
        user_id: UserId,
        payload: dict[str, Any],
        delay_s: float = 0.0,
    ) -> bool:
        """Queues a job; False when one of this (kind, key) is queued already, which then stays as it is."""
        statement = (
            insert(self._table)
            .values(
                id=new_id(),
                kind=kind,
                key=key,
                user_id=user_id,
                payload=payload,
                trace_context=carried_context(),
                due_at=func.now() + timedelta(seconds=delay_s),
                first_due_at=func.now() + timedelta(seconds=delay_s),
            )
            .on_conflict_do_nothing(index_elements=["kind", "key"])
        )
        return (await connection.execute(statement)).rowcount == 1

    async def renew(
        self,
        connection: AsyncConnection,
        *,
        kind: str,
        key: str,
        user_id: UserId,
        payload: dict[str, Any],
        delay_s: float,
    ) -> None:
        """Queues a job, or puts a queued one off by `delay_s` more (debounce), at most to ten delays after its birth.

        A job renewed while it is worked on is worked on once more; one in back-off stays in it.
        """
        delay = timedelta(seconds=delay_s)
        table = self._table
        statement = insert(table).values(
            id=new_id(),
            kind=kind,
            key=key,
            user_id=user_id,
            payload=payload,
            trace_context=carried_context(),
            due_at=func.now() + delay,
            first_due_at=func.now() + delay,
        )
        put_off = func.least(statement.excluded.due_at, table.c.created_at + delay * _MAX_DELAYS)
        is_untried = table.c.attempt == 0
        renewed = statement.on_conflict_do_update(
            index_elements=["kind", "key"],
            set_={
                "payload": statement.excluded.payload,
                "version": table.c.version + 1,
                "due_at": case((is_untried, put_off), else_=table.c.due_at),
                "first_due_at": case((is_untried, put_off), else_=table.c.first_due_at),
            },
        )
        await connection.execute(renewed)

    async def claim(self, connection: AsyncConnection, *, limit: int, lease_s: float) -> Sequence[Job]:
        """Up to `limit` due jobs, oldest first, leased to the caller. Needs the worker role."""
        table = self._table
        due = (
            select(table.c.id)
            .where(table.c.due_at <= func.now(), (table.c.leased_until.is_(None)) | (table.c.leased_until < func.now()))
            .order_by(table.c.due_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
            # As a CTE, which PostgreSQL runs once: a subquery in IN may run once a row, and then exceed its limit.
            .cte("due")
        )
        statement = (
            update(table)
            .where(table.c.id.in_(select(due.c.id)))
            .values(leased_until=func.now() + timedelta(seconds=lease_s), attempt=table.c.attempt + 1)
            .returning(
                table.c.id,
                table.c.kind,
                table.c.user_id,
                table.c.payload,
                table.c.trace_context,
                table.c.attempt,
                table.c.version,
            )
        )
        return [Job(*row) for row in (await connection.execute(statement)).all()]

    async def finish(self, connection: AsyncConnection, job: Job) -> bool:
        """Takes the job off the queue, or makes it due again when it was renewed meanwhile.

        False when its lease was lost to another worker or it was deleted.
        """
        table = self._table
        mine = (table.c.id == job.id) & (table.c.attempt == job.attempt)
        finished = await connection.execute(delete(table).where(mine, table.c.version == job.version))
        if finished.rowcount == 1:
            return True
        anew = {"leased_until": None, "attempt": 0, "due_at": func.now(), "first_due_at": func.now()}
        again = await connection.execute(update(table).where(mine).values(anew))
        return again.rowcount == 1

    async def retry_later(self, connection: AsyncConnection, job: Job) -> None:
        """Gives the job back, due after a back-off that doubles with each attempt."""
        delay_s = min(_BACKOFF_BASE_S * 2 ** min(job.attempt - 1, _MAX_DOUBLINGS), _BACKOFF_MAX_S)
        statement = (
            update(self._table)
            .where(self._table.c.id == job.id, self._table.c.attempt == job.attempt)
            .values(leased_until=None, due_at=func.now() + timedelta(seconds=delay_s))
        )
        await connection.execute(statement)

    async def oldest_due_age_s(self, connection: AsyncConnection) -> float:
        """For how long the oldest job that is not done should have been, in seconds; 0.0 when there is none.

        Counted from when it was due first: a job in back-off waits as well, and it is what an alert is about.
        """
        table = self._table
        age = func.extract("epoch", func.now() - func.min(table.c.first_due_at))
        seconds = (await connection.execute(select(age).where(table.c.first_due_at <= func.now()))).scalar()
        return float(seconds or 0.0)
