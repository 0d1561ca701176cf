"""The statements of a job queue, for one table."""

from dataclasses import dataclass
from typing import Self

from mesh_common.database.statements import Statement

_ADD = """
    INSERT INTO {table} AS job (id, kind, key, org_id, user_id, payload, trace_context, due_at, first_due_at)
    VALUES (:id, :kind, :key, :org_id, :user_id, :payload, :trace_context,
            now() + make_interval(secs => :delay_s), now() + make_interval(secs => :delay_s))
    ON CONFLICT (kind, key)
"""
# A dead letter. It never becomes due, for workers of every release. Its `attempt` is 0, so that the previous release's
# renewal makes it due again, too.
DEAD = "due_at = 'infinity'"
_RENEWED = f"""
    CASE WHEN job.{DEAD} THEN excluded.due_at
         ELSE least(excluded.due_at, job.created_at + make_interval(secs => :longest_s)) END
"""
_RENEW = f"""
    {_ADD} DO UPDATE SET
        payload = excluded.payload,
        version = job.version + 1,
        created_at = CASE WHEN job.{DEAD} THEN now() ELSE job.created_at END,
        due_at = CASE WHEN job.attempt = 0 THEN {_RENEWED} ELSE job.due_at END,
        first_due_at = CASE WHEN job.attempt = 0 THEN {_RENEWED} ELSE job.first_due_at END
"""
# A CTE, which PostgreSQL executes once. A subquery in IN may be executed once per row and then exceed its LIMIT.
_CLAIM = """
    WITH due AS (
        SELECT id FROM {table}
        WHERE due_at <= now() AND kind = ANY(:kinds) AND (leased_until IS NULL OR leased_until < now())
        ORDER BY due_at LIMIT :limit
        FOR UPDATE SKIP LOCKED
    )
    UPDATE {table} AS job
    SET leased_until = now() + make_interval(secs => :lease_s), attempt = job.attempt + 1,
        failed_at = NULL, reason = NULL
    FROM due WHERE job.id = due.id
    RETURNING job.id, job.kind, coalesce(job.org_id, job.user_id), job.user_id, job.payload,
              job.trace_context, job.attempt, job.version, job.paid_calls
"""
# One job per statement, sent for many jobs at once. A join with a list of ids would use a plan that was cached when
# the table was small and that reads the whole table.
_FINISH = "DELETE FROM {table} WHERE id = :id AND attempt = :attempt AND version = :version RETURNING id"
_BEGIN_ANEW = """
    UPDATE {table} SET leased_until = NULL, attempt = 0, paid_calls = 0, due_at = now(), first_due_at = now()
    WHERE id = :id AND attempt = :attempt
    RETURNING id
"""
_RETRY_LATER = """
    UPDATE {table} SET leased_until = NULL, due_at = now() + make_interval(secs => :delay_s),
                       failed_at = now(), reason = :reason, paid_calls = :paid_calls
    WHERE id = :id AND attempt = :attempt
"""
_BURY = """
    UPDATE {table} SET leased_until = NULL, attempt = 0, paid_calls = 0, due_at = 'infinity',
                       first_due_at = 'infinity', failed_at = now(), reason = :reason
    WHERE id = :id AND attempt = :attempt AND first_due_at <= now() - make_interval(secs => :retry_for_s)
    RETURNING id
"""
# Two scans of the index on `due_at`: dead letters may be many, and their payloads need not be read.
_BACKLOG = f"""
    SELECT living.oldest_due_age_s, living.unknown_jobs,
           (SELECT count(*) FROM {{table}} WHERE {DEAD}) AS dead_letters
    FROM (
        SELECT extract(epoch FROM now() - min(first_due_at) FILTER (WHERE first_due_at <= now())) AS oldest_due_age_s,
               count(*) FILTER (WHERE due_at <= now() AND kind <> ALL(:kinds)) AS unknown_jobs
        FROM {{table}} WHERE due_at < 'infinity'
    ) AS living
"""  # noqa: S608 - our own condition


@dataclass(frozen=True, slots=True)
class JobStatements:
    add: Statement
    renew: Statement
    claim: Statement
    finish: Statement
    begin_anew: Statement
    retry_later: Statement
    bury: Statement
    backlog: Statement

    @classmethod
    def of(cls, table: str) -> Self:
        """`table` is a name from our own code, including the schema."""

        def on_table(verb: str, sql: str) -> Statement:
            return Statement(f"{table}.{verb}", sql.replace("{table}", table))

        return cls(
            add=on_table("add", f"{_ADD} DO NOTHING"),
            renew=on_table("renew", _RENEW),
            claim=on_table("claim", _CLAIM),
            finish=on_table("finish", _FINISH),
            begin_anew=on_table("begin_anew", _BEGIN_ANEW),
            retry_later=on_table("retry_later", _RETRY_LATER),
            bury=on_table("bury", _BURY),
            backlog=on_table("backlog", _BACKLOG),
        )
