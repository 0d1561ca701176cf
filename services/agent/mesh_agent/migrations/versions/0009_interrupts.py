"""Interrupted runs: what they ask, what was decided, and the runs that resume them."""

from mesh_common.database.online import OnlineStep
from mesh_common.database.row_security import ORGANISATION, secure_sql

revision = "0009"
down_revision = "0008"

_HAS_RESUMES = (
    "EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'agent.runs'::regclass "
    "AND attname = 'resumes_run_id' AND NOT attisdropped)"
)
_HAS_NOTES = (
    "EXISTS (SELECT FROM pg_constraint WHERE conrelid = 'agent.messages'::regclass AND conname = 'messages_role_known')"
)
_STATUSES = "('pending', 'running', 'succeeded', 'failed', 'cancelled', 'interrupted')"
_ROLES = "('user', 'assistant', 'note')"
_TABLE = (
    # A call is identified by `call_key` (`<round>:<index>` within its execution); `graph_id` is LangGraph's id of the
    # interrupt, which another version of LangGraph may compute in another way. Texts of models are stored as text:
    # they may hold what jsonb cannot.
    f"""
    CREATE TABLE agent.interrupts (
        id uuid PRIMARY KEY,
        org_id uuid DEFAULT ({ORGANISATION})::uuid,
        user_id uuid NOT NULL,
        thread_id uuid NOT NULL,
        run_id uuid NOT NULL,
        execution_id uuid NOT NULL,
        call_key text NOT NULL,
        graph_id text NOT NULL,
        kind text NOT NULL,
        call_id text NOT NULL,
        tool text NOT NULL,
        arguments_json text NOT NULL,
        question text NOT NULL,
        answer_schema_json text NOT NULL,
        allowed text[] NOT NULL,
        created_at timestamptz NOT NULL,
        expires_at timestamptz NOT NULL,
        decision text,
        decided_by uuid,
        decided_at timestamptz,
        value_json text NOT NULL DEFAULT '',
        message text NOT NULL DEFAULT '',
        resumed_by uuid,
        UNIQUE (run_id, call_key)
    )
    """,
    "CREATE INDEX interrupts_thread ON agent.interrupts (thread_id) WHERE decision IS NULL",
    "CREATE INDEX interrupts_user ON agent.interrupts (user_id, created_at, id) WHERE decision IS NULL",
    """
    CREATE INDEX interrupts_organisation ON agent.interrupts (coalesce(org_id, user_id), created_at, id)
    WHERE decision IS NULL
    """,
    "CREATE INDEX interrupts_due ON agent.interrupts (expires_at) WHERE decision IS NULL",
    "CREATE INDEX interrupts_resumed ON agent.interrupts (resumed_by) WHERE resumed_by IS NOT NULL",
    "CREATE INDEX interrupts_of_thread ON agent.interrupts (thread_id)",
    *secure_sql("agent", "interrupts"),
)


def _references(column: str, table: str) -> OnlineStep:
    """A step for each foreign key: it locks the other table, which the release before uses."""
    name = f"interrupts_{column}_fkey"
    foreign_key = f"FOREIGN KEY ({column}) REFERENCES agent.{table} ON DELETE CASCADE"
    return OnlineStep(
        f"agent.interrupts.{column}",
        (f"ALTER TABLE agent.interrupts ADD CONSTRAINT {name} {foreign_key}",),
        f"EXISTS (SELECT FROM pg_constraint WHERE conrelid = 'agent.interrupts'::regclass AND conname = '{name}')",
    )


online = (
    # NOT VALID: existing rows fulfil the narrower check that was there before, and need not be read.
    OnlineStep(
        "agent.runs",
        (
            "ALTER TABLE agent.runs ADD COLUMN resumes_run_id uuid",
            "ALTER TABLE agent.runs DROP CONSTRAINT IF EXISTS runs_status_check",
            f"ALTER TABLE agent.runs ADD CONSTRAINT runs_status_known CHECK (status IN {_STATUSES}) NOT VALID",
        ),
        _HAS_RESUMES,
    ),
    OnlineStep(
        "agent.messages",
        (
            "ALTER TABLE agent.messages DROP CONSTRAINT IF EXISTS messages_role_check",
            f"ALTER TABLE agent.messages ADD CONSTRAINT messages_role_known CHECK (role IN {_ROLES}) NOT VALID",
        ),
        _HAS_NOTES,
    ),
    OnlineStep("agent.interrupts", _TABLE, "to_regclass('agent.interrupts') IS NOT NULL"),
    _references("thread_id", "threads"),
    _references("run_id", "runs"),
)


def upgrade() -> None:
    """Records that the steps of `online` have run."""
