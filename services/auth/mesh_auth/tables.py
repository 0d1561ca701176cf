"""The tables of schema `auth` for SQLAlchemy. Migrations create them.

`revocations.xid` is omitted on purpose: only the SQL of the revocation cursor reads it.
"""

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Integer, LargeBinary, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY, UUID

SCHEMA = "auth"
metadata = MetaData(schema=SCHEMA)

users = Table(
    "users",
    metadata,
    Column("org_id", UUID(as_uuid=True)),
    Column("user_id", UUID(as_uuid=True), primary_key=True),
    Column("email", Text, nullable=False),
    Column("email_key", Text, nullable=False, unique=True),
    Column("is_admin", Boolean, nullable=False),
    Column("session_epoch", Integer, nullable=False),
    Column("disabled_at", DateTime(timezone=True)),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

organisations = Table(
    "organisations",
    metadata,
    Column("org_id", UUID(as_uuid=True), primary_key=True),
    Column("user_id", UUID(as_uuid=True)),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

memberships = Table(
    "memberships",
    metadata,
    Column("org_id", UUID(as_uuid=True), primary_key=True),
    Column("user_id", UUID(as_uuid=True), primary_key=True),
    Column("role", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

credentials = Table(
    "credentials",
    metadata,
    Column("org_id", UUID(as_uuid=True)),
    Column("user_id", UUID(as_uuid=True), primary_key=True),
    Column("password_hash", Text, nullable=False),
)

login_failures = Table(
    "login_failures",
    metadata,
    Column("key", LargeBinary, primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("last_failed_at", DateTime(timezone=True), nullable=False),
    Column("pending", ARRAY(DateTime(timezone=True)), nullable=False),
)

login_addresses = Table(
    "login_addresses",
    metadata,
    Column("org_id", UUID(as_uuid=True)),
    Column("user_id", UUID(as_uuid=True), primary_key=True),
    Column("address_hash", LargeBinary, primary_key=True),
    Column("last_login_at", DateTime(timezone=True), nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("session_id", UUID(as_uuid=True), primary_key=True),
    Column("org_id", UUID(as_uuid=True)),
    Column("user_id", UUID(as_uuid=True), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("ended_at", DateTime(timezone=True)),
)

refresh_tokens = Table(
    "refresh_tokens",
    metadata,
    Column("token_hash", LargeBinary, primary_key=True),
    Column("session_id", UUID(as_uuid=True), nullable=False),
    Column("org_id", UUID(as_uuid=True)),
    Column("user_id", UUID(as_uuid=True), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("used_at", DateTime(timezone=True)),
    Column("successor_salt", LargeBinary),
)

revocations = Table(
    "revocations",
    metadata,
    Column("session_id", UUID(as_uuid=True), primary_key=True),
    Column("org_id", UUID(as_uuid=True)),
    Column("user_id", UUID(as_uuid=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
)

entitlement_overrides = Table(
    "entitlement_overrides",
    metadata,
    Column("org_id", UUID(as_uuid=True)),
    Column("user_id", UUID(as_uuid=True), primary_key=True),
    Column("models", ARRAY(Text)),
    Column("tools", ARRAY(Text)),
    Column("context_tokens", Integer),
    Column("monthly_tokens", BigInteger),
)

usage = Table(
    "usage",
    metadata,
    Column("run_id", UUID(as_uuid=True), primary_key=True),
    Column("org_id", UUID(as_uuid=True)),
    Column("user_id", UUID(as_uuid=True), nullable=False),
    Column("model", Text, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cost_micro_usd", BigInteger, nullable=False),
    Column("ended_at", DateTime(timezone=True), nullable=False),
)
