"""The organisation of every row."""

from mesh_common.database.backfill import organisation_backfills
from mesh_common.database.row_security import add_organisation

revision = "0002"
down_revision = "0001"

_TABLES = ("scores", "jobs")
online = add_organisation("eval", _TABLES)
backfills = organisation_backfills("eval", _TABLES)


def upgrade() -> None:
    """Records that the steps of `online` have run."""
