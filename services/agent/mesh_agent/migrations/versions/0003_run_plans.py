"""Run plans, by the hash of their content, and the execution of a run. Runs of the release before have neither.

Columns that may be null and have no default are added without touching a row.
"""

from alembic import op

revision = "0003"
down_revision = "0002"

_STATEMENTS = (
    # `plan` is JSON, kept as the bytes that the hash is of.
    """
    CREATE TABLE agent.plans (
        hash bytea PRIMARY KEY,
        plan bytea NOT NULL,
        used_at timestamptz NOT NULL DEFAULT clock_timestamp()
    )
    """,
    # No foreign key: each start would lock the row of the one plan that all runs share. Null execution: the run's own.
    "ALTER TABLE agent.runs ADD COLUMN plan_hash bytea, ADD COLUMN execution_id uuid",
    # A plan belongs to no user. Only claims and retention, which are the worker's, see it.
    "ALTER TABLE agent.plans ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY all_rows ON agent.plans TO agent_worker USING (true) WITH CHECK (true)",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
