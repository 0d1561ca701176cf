"""Runs that a later run of their thread rolls back."""

from mesh_common.database.online import OnlineStep

revision = "0011"
down_revision = "0010"

# A trigger, because a replica of the release before may end such a run, and would leave its messages in the thread. A
# run has messages until it ends, because a claim reads its input. The condition is checked without a call.
_ROLL_BACK = """
    CREATE OR REPLACE FUNCTION agent.delete_rolled_back_messages() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        DELETE FROM agent.messages WHERE run_id IN (
            SELECT part.id FROM agent.runs part
            WHERE part.thread_id = NEW.thread_id AND part.position <= NEW.position
              AND coalesce(part.execution_id, part.id) = coalesce(NEW.execution_id, NEW.id));
        RETURN NULL;
    END $$
"""
_ON_END = """
    CREATE TRIGGER roll_back AFTER UPDATE OF status, is_rolled_back ON agent.runs FOR EACH ROW
    WHEN (NEW.is_rolled_back AND NEW.status NOT IN ('pending', 'running'))
    EXECUTE FUNCTION agent.delete_rolled_back_messages()
"""

online = (
    OnlineStep(
        "agent.runs",
        ("ALTER TABLE agent.runs ADD COLUMN is_rolled_back boolean NOT NULL DEFAULT false", _ROLL_BACK, _ON_END),
        "EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'agent.runs'::regclass AND tgname = 'roll_back')",
    ),
)


def upgrade() -> None:
    """Records that the steps of `online` have run."""
