"""Calls that may run once only, and the indexes that retention goes by."""

from alembic import op
from mesh_common.migrate import enable_row_security

revision = "0002"
down_revision = "0001"

_STATEMENTS = (
    # A row says: this call was begun by the attempt with this fencing number. It goes with the end of its run.
    """
    CREATE TABLE agent.once_calls (
        run_id uuid NOT NULL REFERENCES agent.runs ON DELETE CASCADE,
        call_key text NOT NULL,
        user_id uuid NOT NULL,
        fence bigint NOT NULL,
        PRIMARY KEY (run_id, call_key)
    )
    """,
    "CREATE INDEX runs_with_frames ON agent.runs (ended_at) WHERE frames IS NOT NULL",
    "CREATE INDEX runs_with_key ON agent.runs (created_at) WHERE idempotency_key IS NOT NULL",
    "CREATE INDEX threads_with_key ON agent.threads (created_at) WHERE idempotency_key IS NOT NULL",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
    enable_row_security("agent", ("once_calls",))
