"""Forget generations, forgotten threads, the source of a memory, and the number of extractions of a run."""

from alembic import op
from mesh_common.database.online import OnlineStep
from mesh_common.database.row_security import ORGANISATION, secure_sql

revision = "0003"
down_revision = "0002"


def _has_column(table: str, column: str) -> str:
    return (
        f"EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'memory.{table}'::regclass "
        f"AND attname = '{column}' AND NOT attisdropped)"
    )


# Columns that may be null, or whose default is a constant, are added without touching a row.
online = (
    OnlineStep(
        "memory.memories",
        (
            """
            ALTER TABLE memory.memories
                ADD COLUMN thread_id uuid, ADD COLUMN message_id uuid, ADD COLUMN said_at timestamptz
            """,
        ),
        _has_column("memories", "said_at"),
    ),
    OnlineStep(
        "memory.remembered_runs",
        ("ALTER TABLE memory.remembered_runs ADD COLUMN extractions integer NOT NULL DEFAULT 0",),
        _has_column("remembered_runs", "extractions"),
    ),
)
# `user_id` first: statements name the user, and row-level security adds the organisation.
_STATEMENTS = (
    f"""
    CREATE TABLE memory.forget_generations (
        org_id uuid NOT NULL DEFAULT ({ORGANISATION})::uuid,
        user_id uuid NOT NULL,
        generation bigint NOT NULL,
        forgotten_at timestamptz NOT NULL,
        PRIMARY KEY (user_id, org_id)
    )
    """,
    f"""
    CREATE TABLE memory.forgotten_threads (
        org_id uuid NOT NULL DEFAULT ({ORGANISATION})::uuid,
        user_id uuid NOT NULL,
        thread_id uuid NOT NULL,
        forgotten_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (user_id, thread_id, org_id)
    )
    """,
    *secure_sql("memory", "forget_generations"),
    *secure_sql("memory", "forgotten_threads"),
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
