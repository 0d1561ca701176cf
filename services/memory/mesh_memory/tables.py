"""The tables of the schema `memory`, as migrations/ creates them."""

from typing import Any, Final

from mesh_common.jobs.table import job_table
from pgvector.sqlalchemy import VECTOR
from sqlalchemy import BigInteger, Column, DateTime, Integer, LargeBinary, MetaData, Table, Text, func, text
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
    Column("thread_id", UUID(as_uuid=True)),
    Column("message_id", UUID(as_uuid=True)),
    Column("said_at", DateTime(timezone=True)),
)
remembered_runs = Table(
    "remembered_runs",
    metadata,
    Column("org_id", UUID(as_uuid=True)),
    Column("user_id", UUID(as_uuid=True), primary_key=True),
    Column("run_id", UUID(as_uuid=True), primary_key=True),
    _moment("opened_at"),
    Column("closed_at", DateTime(timezone=True)),
    Column("extractions", Integer, nullable=False, server_default=text("0")),
)
# The user's current generation. A user without a row has generation 0 and never deleted a memory.
forget_generations = Table(
    "forget_generations",
    metadata,
    Column("org_id", UUID(as_uuid=True), primary_key=True),
    Column("user_id", UUID(as_uuid=True), primary_key=True),
    Column("generation", BigInteger, nullable=False),
    _moment("forgotten_at"),
)
forgotten_threads = Table(
    "forgotten_threads",
    metadata,
    Column("org_id", UUID(as_uuid=True), primary_key=True),
    Column("user_id", UUID(as_uuid=True), primary_key=True),
    Column("thread_id", UUID(as_uuid=True), primary_key=True),
    _moment("forgotten_at"),
)
jobs = job_table(metadata)
