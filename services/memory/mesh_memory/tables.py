"""The tables of the schema `memory`, as migrations/ creates them."""

from typing import Any, Final

from mesh_common.jobs.table import job_table
from pgvector.sqlalchemy import VECTOR
from sqlalchemy import Column, DateTime, LargeBinary, MetaData, Table, Text, func
from sqlalchemy.dialects.postgresql import UUID

SCHEMA: Final = "memory"
metadata = MetaData(schema=SCHEMA)


def _moment(name: str) -> Column[Any]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())


memories = Table(
    "memories",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("org_id", UUID(as_uuid=True)),
    Column("user_id", UUID(as_uuid=True), nullable=False),
    Column("text", Text, nullable=False),
    Column("text_hash", LargeBinary, nullable=False),
    Column("origin", Text, nullable=False),
    Column("run_id", UUID(as_uuid=True)),
    Column("embedding_model", Text, nullable=False),
    Column("embedding", VECTOR(), nullable=False),
    _moment("created_at"),
    _moment("updated_at"),
)
remembered_runs = Table(
    "remembered_runs",
    metadata,
    Column("org_id", UUID(as_uuid=True)),
    Column("user_id", UUID(as_uuid=True), primary_key=True),
    Column("run_id", UUID(as_uuid=True), primary_key=True),
    _moment("opened_at"),
    Column("closed_at", DateTime(timezone=True)),
)
jobs = job_table(metadata)
