"""The user's forget generation during a run. Null: the run did not learn it."""

from mesh_common.database.online import OnlineStep

revision = "0005"
down_revision = "0004"

_HAS_COLUMN = (
    "EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'agent.runs'::regclass "
    "AND attname = 'forget_generation' AND NOT attisdropped)"
)
# A column that may be null and has no default is added without touching a row.
online = (OnlineStep("agent.runs", ("ALTER TABLE agent.runs ADD COLUMN forget_generation bigint",), _HAS_COLUMN),)


def upgrade() -> None:
    """Records that the steps of `online` have run."""
