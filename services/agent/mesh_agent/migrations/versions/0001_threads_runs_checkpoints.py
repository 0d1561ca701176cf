"""Threads, runs, messages, leases, the outbox, and the checkpoint tables of langgraph-checkpoint-postgres 3.2."""

from alembic import op
from mesh_common.job_queue import job_table_sql
from mesh_common.migrate import enable_row_security

revision = "0001"
down_revision = None

# A run's place in its thread is its `position`: given by the database, so that clocks of gateways do not matter.
_TABLES = (
    """
    CREATE TABLE agent.threads (
        id uuid PRIMARY KEY,
        user_id uuid NOT NULL,
        title text NOT NULL DEFAULT '',
        metadata jsonb NOT NULL DEFAULT '{}',
        idempotency_key text,
        request_hash bytea,
        remembered_position bigint NOT NULL DEFAULT 0,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX threads_user ON agent.threads (user_id, updated_at DESC, id DESC)",
    """
    CREATE UNIQUE INDEX threads_idempotency ON agent.threads (user_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL
    """,
    """
    CREATE TABLE agent.runs (
        id uuid PRIMARY KEY,
        user_id uuid NOT NULL,
        thread_id uuid NOT NULL REFERENCES agent.threads ON DELETE CASCADE,
        position bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
        status text NOT NULL CHECK (status IN ('pending', 'running', 'succeeded', 'failed', 'cancelled')),
        attempt integer NOT NULL DEFAULT 0,
        lost_attempts integer NOT NULL DEFAULT 0,
        model text,
        metadata jsonb NOT NULL DEFAULT '{}',
        is_cancel_requested boolean NOT NULL DEFAULT false,
        idempotency_key text,
        request_hash bytea,
        trace_context jsonb NOT NULL DEFAULT '{}',
        created_at timestamptz NOT NULL DEFAULT now(),
        started_at timestamptz,
        ended_at timestamptz,
        finish_reason text,
        input_tokens bigint,
        output_tokens bigint,
        cost_micro_usd bigint,
        error_reason text,
        error_detail text,
        error_is_retryable boolean,
        frames bytea
    )
    """,
    "CREATE INDEX runs_thread ON agent.runs (thread_id, position)",
    "CREATE INDEX runs_unended ON agent.runs (position) WHERE status IN ('pending', 'running')",
    "CREATE INDEX runs_thread_unended ON agent.runs (thread_id, position) WHERE status IN ('pending', 'running')",
    """
    CREATE UNIQUE INDEX runs_idempotency ON agent.runs (user_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL
    """,
    # Frames are random to the eye: compressing them a second time costs and gains nothing.
    "ALTER TABLE agent.runs ALTER COLUMN frames SET STORAGE EXTERNAL",
    """
    CREATE TABLE agent.messages (
        id uuid PRIMARY KEY,
        user_id uuid NOT NULL,
        thread_id uuid NOT NULL REFERENCES agent.threads ON DELETE CASCADE,
        run_id uuid NOT NULL REFERENCES agent.runs ON DELETE CASCADE,
        position bigint NOT NULL,
        part smallint NOT NULL,
        role text NOT NULL CHECK (role IN ('user', 'assistant')),
        content text NOT NULL,
        is_partial boolean NOT NULL DEFAULT false,
        created_at timestamptz NOT NULL DEFAULT now(),
        UNIQUE (thread_id, position, part)
    )
    """,
    "CREATE INDEX messages_run ON agent.messages (run_id)",
    "CREATE SEQUENCE agent.fences",
    """
    CREATE TABLE agent.leases (
        thread_id uuid PRIMARY KEY REFERENCES agent.threads ON DELETE CASCADE,
        user_id uuid NOT NULL,
        run_id uuid NOT NULL REFERENCES agent.runs ON DELETE CASCADE,
        owner text NOT NULL,
        owner_address text NOT NULL,
        fence bigint NOT NULL,
        expires_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX leases_owner ON agent.leases (owner)",
    "CREATE INDEX leases_run ON agent.leases (run_id)",
)

# The tables of langgraph-checkpoint-postgres as of its migration 9, with the user beside every row; its own
# `setup()` is never called (it would build indexes concurrently, outside of our transaction).
_MINE = "user_id uuid NOT NULL DEFAULT nullif(current_setting('mesh.user_id', true), '')::uuid"
_CHECKPOINTS = (
    "CREATE TABLE agent.checkpoint_migrations (v integer PRIMARY KEY)",
    "INSERT INTO agent.checkpoint_migrations (v) SELECT generate_series(0, 9)",
    f"""
    CREATE TABLE agent.checkpoints (
        thread_id text NOT NULL,
        checkpoint_ns text NOT NULL DEFAULT '',
        checkpoint_id text NOT NULL,
        parent_checkpoint_id text,
        type text,
        checkpoint jsonb NOT NULL,
        metadata jsonb NOT NULL DEFAULT '{{}}',
        {_MINE},
        PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id)
    )
    """,
    f"""
    CREATE TABLE agent.checkpoint_blobs (
        thread_id text NOT NULL,
        checkpoint_ns text NOT NULL DEFAULT '',
        channel text NOT NULL,
        version text NOT NULL,
        type text NOT NULL,
        blob bytea,
        {_MINE},
        PRIMARY KEY (thread_id, checkpoint_ns, channel, version)
    )
    """,
    f"""
    CREATE TABLE agent.checkpoint_writes (
        thread_id text NOT NULL,
        checkpoint_ns text NOT NULL DEFAULT '',
        checkpoint_id text NOT NULL,
        task_id text NOT NULL,
        idx integer NOT NULL,
        channel text NOT NULL,
        type text,
        blob bytea NOT NULL,
        task_path text NOT NULL DEFAULT '',
        {_MINE},
        PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id, task_id, idx)
    )
    """,
)


def upgrade() -> None:
    for statement in (*_TABLES, *job_table_sql("agent", "outbox"), *_CHECKPOINTS):
        op.execute(statement)
    enable_row_security(
        "agent",
        (
            "threads",
            "runs",
            "messages",
            "leases",
            "outbox",
            "checkpoints",
            "checkpoint_blobs",
            "checkpoint_writes",
        ),
    )
