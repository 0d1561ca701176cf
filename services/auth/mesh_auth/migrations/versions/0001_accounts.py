"""Accounts, sessions, revocations, entitlements and usage."""

from alembic import op
from mesh_common.migrate import enable_row_security

revision = "0001"
down_revision = None

_STATEMENTS = (
    """
    CREATE TABLE auth.users (
        user_id uuid PRIMARY KEY,
        email text NOT NULL,
        email_key text NOT NULL UNIQUE,
        is_admin boolean NOT NULL DEFAULT false,
        created_at timestamptz NOT NULL
    )
    """,
    """
    CREATE TABLE auth.credentials (
        user_id uuid PRIMARY KEY REFERENCES auth.users ON DELETE CASCADE,
        password_hash text NOT NULL
    )
    """,
    """
    CREATE TABLE auth.sessions (
        session_id uuid PRIMARY KEY,
        user_id uuid NOT NULL REFERENCES auth.users ON DELETE CASCADE,
        created_at timestamptz NOT NULL,
        expires_at timestamptz NOT NULL,
        ended_at timestamptz
    )
    """,
    "CREATE INDEX sessions_user ON auth.sessions (user_id)",
    "CREATE INDEX sessions_expires ON auth.sessions (expires_at)",
    "CREATE INDEX sessions_ended ON auth.sessions (ended_at) WHERE ended_at IS NOT NULL",
    """
    CREATE TABLE auth.refresh_tokens (
        token_hash bytea PRIMARY KEY CHECK (length(token_hash) = 32),
        session_id uuid NOT NULL REFERENCES auth.sessions ON DELETE CASCADE,
        user_id uuid NOT NULL REFERENCES auth.users ON DELETE CASCADE,
        created_at timestamptz NOT NULL,
        expires_at timestamptz NOT NULL,
        used_at timestamptz
    )
    """,
    "CREATE INDEX refresh_tokens_session ON auth.refresh_tokens (session_id)",
    "CREATE INDEX refresh_tokens_user ON auth.refresh_tokens (user_id)",
    "CREATE INDEX refresh_tokens_expires ON auth.refresh_tokens (expires_at)",
    # No reference to the session: the revocation must hold even when the session's row is gone.
    """
    CREATE TABLE auth.revocations (
        session_id uuid PRIMARY KEY,
        user_id uuid NOT NULL,
        expires_at timestamptz NOT NULL,
        xid xid8 NOT NULL DEFAULT pg_current_xact_id()
    )
    """,
    "CREATE INDEX revocations_xid ON auth.revocations (xid, session_id)",
    "CREATE INDEX revocations_user ON auth.revocations (user_id)",
    "CREATE INDEX revocations_expires ON auth.revocations (expires_at)",
    """
    CREATE TABLE auth.entitlement_overrides (
        user_id uuid PRIMARY KEY REFERENCES auth.users ON DELETE CASCADE,
        models text[],
        tools text[],
        context_tokens integer CHECK (context_tokens > 0),
        monthly_tokens bigint CHECK (monthly_tokens >= 0)
    )
    """,
    """
    CREATE TABLE auth.usage (
        run_id uuid PRIMARY KEY,
        user_id uuid NOT NULL REFERENCES auth.users ON DELETE CASCADE,
        model text NOT NULL,
        input_tokens bigint NOT NULL CHECK (input_tokens >= 0),
        output_tokens bigint NOT NULL CHECK (output_tokens >= 0),
        cost_micro_usd bigint NOT NULL CHECK (cost_micro_usd >= 0),
        ended_at timestamptz NOT NULL
    )
    """,
    # A month's sums are read from the index alone.
    """
    CREATE INDEX usage_user_month ON auth.usage (user_id, ended_at)
        INCLUDE (model, input_tokens, output_tokens, cost_micro_usd)
    """,
)
_TABLES = ("users", "credentials", "sessions", "refresh_tokens", "revocations", "entitlement_overrides", "usage")


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
    enable_row_security("auth", _TABLES)
