"""How many calls of a model a job has paid for in vain."""

from mesh_common.jobs.paid_calls_column import add_paid_calls_column

revision = "0008"
down_revision = "0007"

online = (add_paid_calls_column("agent.outbox"),)


def upgrade() -> None:
    """Records that the steps of `online` have run."""
