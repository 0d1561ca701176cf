"""Assistants of the API, which of all assistants are disabled, and which one a run and a thread use."""

from mesh_common.database.online import OnlineStep
from mesh_common.database.row_security import ORGANISATION, secure_sql

revision = "0010"
down_revision = "0009"

_OWN_ORGANISATION = f"coalesce(org_id, user_id) = ({ORGANISATION})::uuid"
_ASSISTANTS = (
    # Descriptions are text, as they were sent: jsonb would reorder and round.
    f"""
    CREATE TABLE agent.assistants (
        id uuid PRIMARY KEY,
        org_id uuid DEFAULT ({ORGANISATION})::uuid,
        user_id uuid NOT NULL,
        name text NOT NULL,
        visibility text NOT NULL CHECK (visibility IN ('private', 'organisation')),
        current_version integer NOT NULL,
        last_version integer NOT NULL,
        is_disabled boolean NOT NULL DEFAULT false,
        idempotency_key text,
        request_hash bytea,
        created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
    )
    """,
    # A user has one assistant of a name, and so has the rest of the organisation.
    "CREATE UNIQUE INDEX assistants_own ON agent.assistants (user_id, coalesce(org_id, user_id), name)",
    """
    CREATE UNIQUE INDEX assistants_shared ON agent.assistants (coalesce(org_id, user_id), name)
    WHERE visibility = 'organisation'
    """,
    """
    CREATE UNIQUE INDEX assistants_key ON agent.assistants (user_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL
    """,
    "CREATE INDEX assistants_disabled ON agent.assistants (id) WHERE is_disabled",
    *secure_sql("agent", "assistants"),
    f"""
    CREATE POLICY shared_rows ON agent.assistants FOR SELECT TO agent_app
    USING (visibility = 'organisation' AND {_OWN_ORGANISATION})
    """,
)
_VERSIONS = (
    f"""
    CREATE TABLE agent.assistant_versions (
        assistant_id uuid NOT NULL REFERENCES agent.assistants ON DELETE CASCADE,
        version integer NOT NULL,
        org_id uuid DEFAULT ({ORGANISATION})::uuid,
        user_id uuid NOT NULL,
        spec_json text NOT NULL,
        created_by uuid NOT NULL,
        created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (assistant_id, version)
    )
    """,
    *secure_sql("agent", "assistant_versions"),
    # The policies of the assistants decide here, too: the subquery sees what the transaction may see.
    """
    CREATE POLICY shared_rows ON agent.assistant_versions FOR SELECT TO agent_app
    USING (EXISTS (SELECT FROM agent.assistants a WHERE a.id = assistant_id AND a.visibility = 'organisation'))
    """,
)
# Of files and of the settings, which belong to nobody.
_SWITCHES = (
    """
    CREATE TABLE agent.assistant_switches (
        name text PRIMARY KEY,
        is_disabled boolean NOT NULL,
        changed_by uuid NOT NULL,
        changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
    )
    """,
    "ALTER TABLE agent.assistant_switches ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY read_rows ON agent.assistant_switches FOR SELECT TO agent_app USING (true)",
    "CREATE POLICY all_rows ON agent.assistant_switches TO agent_worker USING (true) WITH CHECK (true)",
)


def _has(table: str, column: str) -> str:
    return (
        f"EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'agent.{table}'::regclass "
        f"AND attname = '{column}' AND NOT attisdropped)"
    )


_RUNS = """
    ALTER TABLE agent.runs
        ADD COLUMN assistant text, ADD COLUMN assistant_version text, ADD COLUMN assistant_id uuid,
        ADD COLUMN is_unremembered boolean NOT NULL DEFAULT false
"""
online = (
    OnlineStep("agent.assistants", _ASSISTANTS, "to_regclass('agent.assistants') IS NOT NULL"),
    OnlineStep("agent.assistant_versions", _VERSIONS, "to_regclass('agent.assistant_versions') IS NOT NULL"),
    OnlineStep("agent.assistant_switches", _SWITCHES, "to_regclass('agent.assistant_switches') IS NOT NULL"),
    # Nullable and without a default: no row is rewritten. `assistant_id` is of the API's assistants only.
    OnlineStep("agent.runs", (_RUNS,), _has("runs", "assistant")),
    OnlineStep("agent.threads", ("ALTER TABLE agent.threads ADD COLUMN assistant text",), _has("threads", "assistant")),
)


def upgrade() -> None:
    """Records that the steps of `online` have run."""
