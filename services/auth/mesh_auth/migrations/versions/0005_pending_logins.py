"""When the logins in progress began, so that they can be told from failures."""

from mesh_common.database.online import OnlineStep

revision = "0005"
down_revision = "0004"

# An older replica keeps counting a login in progress as a failure and leaves the column alone: `failures` includes the
# pending ones, so that either release understands what the other one wrote.
_ADD = "ALTER TABLE auth.login_failures ADD COLUMN IF NOT EXISTS pending timestamptz[] NOT NULL DEFAULT '{}'"
_IS_ADDED = (
    "EXISTS (SELECT FROM pg_attribute "
    "WHERE attrelid = 'auth.login_failures'::regclass AND attname = 'pending' AND NOT attisdropped)"
)
online = (OnlineStep("auth.login_failures", (_ADD,), _IS_ADDED),)


def upgrade() -> None:
    """Records that the step of `online` has run."""
