"""The organisation of every row."""

from mesh_common.database.backfill import organisation_backfills
from mesh_common.database.row_security import add_organisation

revision = "0004"
down_revision = "0003"

_TABLES = (
    "threads",
    "runs",
    "messages",
    "leases",
    "once_calls",
    "outbox",
    "checkpoints",
    "checkpoint_blobs",
    "checkpoint_writes",
)
online = add_organisation("agent", _TABLES)
backfills = organisation_backfills("agent", _TABLES)


def upgrade() -> None:
    """Records that the steps of `online` have run."""
