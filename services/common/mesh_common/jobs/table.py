"""A queue's table, for services that read it with SQLAlchemy."""

from sqlalchemy import Column, DateTime, Integer, MetaData, Table, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB, UUID


def job_table(metadata: MetaData) -> Table:
    """The table, for a service's `tables.py`; the service's migrations create it."""
    return Table(
        "jobs",
        metadata,
        Column("id", UUID(as_uuid=True), primary_key=True),
        Column("kind", Text, nullable=False),
        Column("key", Text, nullable=False),
        Column("org_id", UUID(as_uuid=True)),
        Column("user_id", UUID(as_uuid=True), nullable=False),
        Column("payload", JSONB, nullable=False),
        Column("trace_context", JSONB, nullable=False),
        Column("attempt", Integer, nullable=False, server_default=text("0")),
        Column("version", Integer, nullable=False, server_default=text("0")),
        Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        Column("due_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        Column("first_due_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        Column("leased_until", DateTime(timezone=True)),
        Column("failed_at", DateTime(timezone=True)),
        Column("reason", Text),
        Column("paid_calls", Integer, nullable=False, server_default=text("0")),
    )
