"""Dead letters: when a job failed last, and why."""

from mesh_common.jobs.dead_letter_columns import add_dead_letter_columns

revision = "0006"
down_revision = "0005"

online = (add_dead_letter_columns("agent.outbox"),)


def upgrade() -> None:
    """Records that the steps of `online` have run."""
