"""The statements of a job queue, for one table.

Texts made once: built from expressions for each job they cost more than PostgreSQL's answer, and SQLAlchemy compiles an
insert with ON CONFLICT anew each time.
"""

from dataclasses import dataclass
from typing import Self

from sqlalchemy import Integer, Text, TextClause, bindparam, column, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.sql.selectable import TextualSelect

_ADD = """
    INSERT INTO {table} AS job (id, kind, key, user_id, payload, trace_context, due_at, first_due_at)
    VALUES (:id, :kind, :key, :user_id, :payload, :trace_context,
            now() + make_interval(secs => :delay_s), now() + make_interval(secs => :delay_s))
    ON CONFLICT (kind, key)
"""
_RENEWED = "least(excluded.due_at, job.created_at + make_interval(secs => :longest_s))"
_RENEW = f"""
    {_ADD} DO UPDATE SET
        payload = excluded.payload,
        version = job.version + 1,
        due_at = CASE WHEN job.attempt = 0 THEN {_RENEWED} ELSE job.due_at END,
        first_due_at = CASE WHEN job.attempt = 0 THEN {_RENEWED} ELSE job.first_due_at END
"""
# A CTE, which PostgreSQL runs once: a subquery in IN may run once a row, and then exceed its limit.
_CLAIM = """
    WITH due AS (
        SELECT id FROM {table}
        WHERE due_at <= now() AND (leased_until IS NULL OR leased_until < now())
        ORDER BY due_at LIMIT :limit
        FOR UPDATE SKIP LOCKED
    )
    UPDATE {table} AS job
    SET leased_until = now() + make_interval(secs => :lease_s), attempt = job.attempt + 1
    FROM due WHERE job.id = due.id
    RETURNING job.id, job.kind, job.user_id, job.payload, job.trace_context, job.attempt, job.version
"""
_FINISH = "DELETE FROM {table} WHERE id = :id AND attempt = :attempt AND version = :version"
_BEGIN_ANEW = """
    UPDATE {table} SET leased_until = NULL, attempt = 0, due_at = now(), first_due_at = now()
    WHERE id = :id AND attempt = :attempt
"""
_RETRY_LATER = """
    UPDATE {table} SET leased_until = NULL, due_at = now() + make_interval(secs => :delay_s)
    WHERE id = :id AND attempt = :attempt
"""
_OLDEST_DUE_AGE = "SELECT extract(epoch FROM now() - min(first_due_at)) FROM {table} WHERE first_due_at <= now()"


@dataclass(frozen=True, slots=True)
class JobStatements:
    add: TextClause
    renew: TextClause
    claim: TextualSelect
    finish: TextClause
    begin_anew: TextClause
    retry_later: TextClause
    oldest_due_age: TextClause

    @classmethod
    def of(cls, table: str) -> Self:
        """`table` is a name of our own code's, with its schema."""

        def on_table(sql: str) -> TextClause:
            return text(sql.replace("{table}", table))

        json = (bindparam("payload", type_=JSONB), bindparam("trace_context", type_=JSONB))
        return cls(
            add=on_table(f"{_ADD} DO NOTHING").bindparams(*json),
            renew=on_table(_RENEW).bindparams(*json),
            claim=on_table(_CLAIM).columns(
                column("id", PG_UUID(as_uuid=True)),
                column("kind", Text),
                column("user_id", PG_UUID(as_uuid=True)),
                column("payload", JSONB),
                column("trace_context", JSONB),
                column("attempt", Integer),
                column("version", Integer),
            ),
            finish=on_table(_FINISH),
            begin_anew=on_table(_BEGIN_ANEW),
            retry_later=on_table(_RETRY_LATER),
            oldest_due_age=on_table(_OLDEST_DUE_AGE),
        )
