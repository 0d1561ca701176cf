"""Which agent of a team wrote a message, and what each agent of a team used."""

from mesh_common.database.online import OnlineStep

revision = "0012"
down_revision = "0011"


def _has(table: str, column: str) -> str:
    return (
        f"EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'agent.{table}'::regclass AND attname = '{column}' "
        "AND NOT attisdropped)"
    )


online = (
    OnlineStep("agent.messages", ("ALTER TABLE agent.messages ADD COLUMN agent text",), _has("messages", "agent")),
    OnlineStep("agent.runs", ("ALTER TABLE agent.runs ADD COLUMN agent_usage jsonb",), _has("runs", "agent_usage")),
)


def upgrade() -> None:
    """Records that the steps of `online` have run."""
