"""Failed logins by keyed hash, and the addresses from which owners log in."""

from alembic import op
from mesh_common.database.online import OnlineStep
from mesh_common.database.row_security import ORGANISATION, USER

revision = "0003"
down_revision = "0002"

# A person logs in to one account, whatever the organisation: the policy compares the user only, as for sessions.
_OWN = f"user_id = ({USER})::uuid"
_ADDRESSES = (
    f"""
    CREATE TABLE auth.login_addresses (
        org_id uuid DEFAULT ({ORGANISATION})::uuid,
        user_id uuid NOT NULL REFERENCES auth.users ON DELETE CASCADE,
        address_hash bytea NOT NULL CHECK (length(address_hash) = 32),
        last_login_at timestamptz NOT NULL,
        PRIMARY KEY (user_id, address_hash)
    )
    """,
    "CREATE INDEX login_addresses_last_login ON auth.login_addresses (last_login_at)",
    "ALTER TABLE auth.login_addresses ENABLE ROW LEVEL SECURITY",
    f"CREATE POLICY own_rows ON auth.login_addresses TO auth_app USING ({_OWN}) WITH CHECK ({_OWN})",
    "CREATE POLICY all_rows ON auth.login_addresses TO auth_worker USING (true) WITH CHECK (true)",
)
# Online because the reference locks auth.users.
online = (OnlineStep("auth.login_addresses", _ADDRESSES, "to_regclass('auth.login_addresses') IS NOT NULL"),)

_FAILURES = (
    """
    CREATE TABLE auth.login_failures (
        key bytea PRIMARY KEY CHECK (length(key) = 32),
        failures integer NOT NULL CHECK (failures > 0),
        last_failed_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX login_failures_last_failed ON auth.login_failures (last_failed_at)",
    # No policy for the requests' role: the rows are not any user's.
    "ALTER TABLE auth.login_failures ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY all_rows ON auth.login_failures TO auth_worker USING (true) WITH CHECK (true)",
)


def upgrade() -> None:
    for statement in _FAILURES:
        op.execute(statement)
