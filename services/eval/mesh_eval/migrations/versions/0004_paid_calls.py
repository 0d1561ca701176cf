"""How many calls of a model a job has paid for in vain."""

from mesh_common.jobs.paid_calls_column import add_paid_calls_column

revision = "0004"
down_revision = "0003"

online = (add_paid_calls_column("eval.jobs"),)


def upgrade() -> None:
    """Records that the steps of `online` have run."""
