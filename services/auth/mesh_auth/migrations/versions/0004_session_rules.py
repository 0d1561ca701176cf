"""The salt from which a rotated refresh token's successor is derived, and disabled users."""

from mesh_common.database.online import OnlineStep

revision = "0004"
down_revision = "0003"


def _add(table: str, column: str, kind: str) -> str:
    return f"ALTER TABLE auth.{table} ADD COLUMN IF NOT EXISTS {column} {kind}"


def _has(table: str, column: str) -> str:
    return (
        "EXISTS (SELECT FROM pg_attribute "
        f"WHERE attrelid = 'auth.{table}'::regclass AND attname = '{column}' AND NOT attisdropped)"
    )


online = (
    OnlineStep(
        "auth.refresh_tokens",
        (_add("refresh_tokens", "successor_salt", "bytea"),),
        _has("refresh_tokens", "successor_salt"),
    ),
    # `session_epoch` rises whenever all sessions of the user end, so that a login in progress starts none afterwards.
    OnlineStep(
        "auth.users",
        (_add("users", "session_epoch", "integer NOT NULL DEFAULT 0"), _add("users", "disabled_at", "timestamptz")),
        _has("users", "disabled_at"),
    ),
)


def upgrade() -> None:
    """Records that the steps of `online` have run."""
