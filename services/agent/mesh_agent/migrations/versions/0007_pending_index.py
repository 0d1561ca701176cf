"""An index by which a user's pending runs are counted."""

from mesh_common.database.online import ConcurrentIndex

revision = "0007"
down_revision = "0006"

online = (
    # With the columns that the count and its row-level security compare, so that it reads the index alone.
    ConcurrentIndex(
        "agent.runs_pending_user", "ON agent.runs (user_id) INCLUDE (org_id, thread_id) WHERE status = 'pending'"
    ),
)


def upgrade() -> None:
    """Records that the steps of `online` have run."""
