from alembic import op
from mesh_common.job_queue import job_table_sql
from mesh_common.migrate import enable_row_security

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE eval.scores (
            user_id uuid NOT NULL,
            run_id uuid NOT NULL,
            name text NOT NULL,
            status text NOT NULL CHECK (status IN ('succeeded', 'failed')),
            value double precision CHECK (value BETWEEN 0 AND 1),
            reasoning text NOT NULL,
            run_model text NOT NULL,
            judge_model text NOT NULL,
            prompt_hash text NOT NULL,
            trace_id text,
            created_at timestamptz NOT NULL,
            PRIMARY KEY (user_id, run_id, name),
            CHECK ((status = 'succeeded') = (value IS NOT NULL))
        )
        """
    )
    for statement in job_table_sql("eval"):
        op.execute(statement)
    enable_row_security("eval", ["scores", "jobs"])
