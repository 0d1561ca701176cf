"""Messages of a run before its answer."""

from mesh_common.database.online import OnlineStep

revision = "0013"
down_revision = "0012"

_ROLES = "('user', 'interim', 'assistant', 'note')"

online = (
    OnlineStep(
        "agent.messages",
        (
            "ALTER TABLE agent.messages DROP CONSTRAINT IF EXISTS messages_role_known",
            f"ALTER TABLE agent.messages ADD CONSTRAINT messages_role_or_interim CHECK (role IN {_ROLES}) NOT VALID",
        ),
        "EXISTS (SELECT FROM pg_constraint WHERE conrelid = 'agent.messages'::regclass "
        "AND conname = 'messages_role_or_interim')",
    ),
)


def upgrade() -> None:
    """Records that the steps of `online` have run."""
