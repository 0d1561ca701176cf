"""Organisations, memberships, and the organisation of every row."""

from mesh_common.database.backfill import Backfill, organisation_backfills
from mesh_common.database.online import OnlineStep
from mesh_common.database.row_security import add_organisation, add_organisation_of_person, secure_sql

revision = "0002"
down_revision = "0001"

# A person has one account, whatever the organisation of a call. If these policies compared the organisation, a user
# could not log out, and would have no entitlements, outside the personal organisation.
_OF_PERSON = ("users", "credentials", "sessions", "refresh_tokens", "revocations", "entitlement_overrides")
_OF_ORGANISATION = ("usage",)
_NEW = (
    # `user_id` says whose personal organisation it is, and is NULL for one that people share.
    """
    CREATE TABLE auth.organisations (
        org_id uuid PRIMARY KEY,
        user_id uuid UNIQUE REFERENCES auth.users ON DELETE CASCADE,
        created_at timestamptz NOT NULL,
        CHECK (user_id = org_id)
    )
    """,
    """
    CREATE TABLE auth.memberships (
        org_id uuid NOT NULL REFERENCES auth.organisations ON DELETE CASCADE,
        user_id uuid NOT NULL REFERENCES auth.users ON DELETE CASCADE,
        role text NOT NULL,
        created_at timestamptz NOT NULL,
        PRIMARY KEY (org_id, user_id)
    )
    """,
    "CREATE INDEX memberships_user ON auth.memberships (user_id)",
    *secure_sql("auth", "organisations"),
    *secure_sql("auth", "memberships"),
)
online = (
    *add_organisation_of_person("auth", _OF_PERSON),
    *add_organisation("auth", _OF_ORGANISATION),
    # Online because the references lock auth.users.
    OnlineStep("auth.organisations", _NEW, "to_regclass('auth.organisations') IS NOT NULL"),
)

_IS_WITHOUT = "NOT EXISTS (SELECT FROM auth.memberships m WHERE m.org_id = old.user_id AND m.user_id = old.user_id)"
# Registration makes both; release 0.1.0 registers users without either.
_MAKE_PERSONAL = f"""
    WITH account AS (
        SELECT old.user_id, old.created_at FROM auth.users AS old
        WHERE old.ctid >= :first AND old.ctid < :after AND {_IS_WITHOUT}
        FOR KEY SHARE SKIP LOCKED
    ), organisation AS (
        INSERT INTO auth.organisations (org_id, user_id, created_at)
        SELECT user_id, user_id, created_at FROM account
        ON CONFLICT DO NOTHING
    )
    INSERT INTO auth.memberships (org_id, user_id, role, created_at)
    SELECT user_id, user_id, 'owner', created_at FROM account
    ON CONFLICT DO NOTHING
"""  # noqa: S608 - our own condition
backfills = (
    *organisation_backfills("auth", (*_OF_PERSON, *_OF_ORGANISATION)),
    Backfill("auth.users", _MAKE_PERSONAL, _IS_WITHOUT),
)


def upgrade() -> None:
    """Records that the steps of `online` have run."""
