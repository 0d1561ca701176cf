"""Dead letters: when a job failed last, and why."""

from mesh_common.jobs.dead_letter_columns import add_dead_letter_columns

revision = "0004"
down_revision = "0003"

online = (add_dead_letter_columns("memory.jobs"),)


def upgrade() -> None:
    """Records that the steps of `online` have run."""
