"""The SQL of usage: books the cost of runs, one by one or in batches, and sums a month."""

from collections.abc import Sequence

from mesh_common.database.statements import Statement
from mesh_common.ids import UserId
from mesh_common.process.telemetry import tracer
from mesh_common.subject import Subject
from opentelemetry.trace import SpanKind
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mesh_auth.domain import ModelUsage, Month, RunUsage, UsageEntry
from mesh_auth.tables import usage

_ADD_USAGE = Statement(
    "auth.add_usage",
    """
    WITH known AS (SELECT user_id FROM auth.users WHERE user_id = :user_id), added AS (
        INSERT INTO auth.usage (run_id, org_id, user_id, model, input_tokens, output_tokens, cost_micro_usd, ended_at)
        SELECT :run_id::uuid, :org_id::uuid, user_id, :model::text, :input_tokens::bigint, :output_tokens::bigint,
               :cost_micro_usd::bigint, :ended_at::timestamptz
        FROM known
        ON CONFLICT (run_id) DO NOTHING
    )
    SELECT EXISTS (SELECT FROM known) AS is_known
    """,
)
# Two batches may hold the same runs, for example when a batch is sent again. All insert in the same order, so they
# cannot deadlock. The users are locked first: a user deleted between the two reads would fail the whole batch by the
# foreign key.
_ADD_USAGE_BATCH = Statement(
    "auth.add_usage_batch",
    """
    WITH known AS (
        SELECT user_id FROM auth.users WHERE user_id = ANY(:user_ids::uuid[]) ORDER BY user_id FOR KEY SHARE
    ), added AS (
        INSERT INTO auth.usage (run_id, org_id, user_id, model, input_tokens, output_tokens, cost_micro_usd, ended_at)
        SELECT run_id, org_id, user_id, model, input_tokens, output_tokens, cost_micro_usd, ended_at
        FROM unnest(
            :run_ids::uuid[], :org_ids::uuid[], :user_ids::uuid[], :models::text[], :input_tokens::bigint[],
            :output_tokens::bigint[], :cost_micro_usd::bigint[], :ended_at::timestamptz[]
        ) WITH ORDINALITY
            AS entry (run_id, org_id, user_id, model, input_tokens, output_tokens, cost_micro_usd, ended_at, position)
        JOIN known USING (user_id)
        ORDER BY run_id, position
        ON CONFLICT (run_id) DO NOTHING
    )
    SELECT user_id FROM known
    """,
)


class PostgresUsageStore:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add_usage(self, subject: Subject, usage_of_run: RunUsage) -> bool:
        parameters = {
            "run_id": usage_of_run.run_id,
            "org_id": subject.organisation_id,
            "user_id": subject.user_id,
            "model": usage_of_run.model,
            "input_tokens": usage_of_run.input_tokens,
            "output_tokens": usage_of_run.output_tokens,
            "cost_micro_usd": usage_of_run.cost_micro_usd,
            "ended_at": usage_of_run.ended_at,
        }
        row = await _ADD_USAGE.row(self._connection, parameters)
        return bool(row and row["is_known"])

    async def add_usage_batch(self, entries: Sequence[UsageEntry]) -> set[UserId]:
        of_runs = [entry.usage for entry in entries]
        parameters = {
            "run_ids": [usage_of_run.run_id for usage_of_run in of_runs],
            "org_ids": [entry.subject.organisation_id for entry in entries],
            "user_ids": [entry.subject.user_id for entry in entries],
            "models": [usage_of_run.model for usage_of_run in of_runs],
            "input_tokens": [usage_of_run.input_tokens for usage_of_run in of_runs],
            "output_tokens": [usage_of_run.output_tokens for usage_of_run in of_runs],
            "cost_micro_usd": [usage_of_run.cost_micro_usd for usage_of_run in of_runs],
            "ended_at": [usage_of_run.ended_at for usage_of_run in of_runs],
        }
        known = await _ADD_USAGE_BATCH.rows(self._connection, parameters)
        return {entry.subject.user_id for entry in entries} - {row["user_id"] for row in known}

    async def sum_usage(self, user_id: UserId, month: Month) -> Sequence[ModelUsage]:
        statement = (
            select(
                usage.c.model,
                func.count().label("runs"),
                func.sum(usage.c.input_tokens).label("input_tokens"),
                func.sum(usage.c.output_tokens).label("output_tokens"),
                func.sum(usage.c.cost_micro_usd).label("cost_micro_usd"),
            )
            .where(usage.c.user_id == user_id, usage.c.ended_at >= month.start, usage.c.ended_at < month.end)
            .group_by(usage.c.model)
            .order_by(usage.c.model)
        )
        with tracer.start_as_current_span("auth.sum_usage", kind=SpanKind.CLIENT):
            rows = (await self._connection.execute(statement)).all()
        return [
            ModelUsage(row.model, row.runs, int(row.input_tokens), int(row.output_tokens), int(row.cost_micro_usd))
            for row in rows
        ]
