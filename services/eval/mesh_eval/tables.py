from mesh_common.jobs.table import job_table
from sqlalchemy import Column, DateTime, Double, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import UUID

metadata = MetaData(schema="eval")

jobs = job_table(metadata)

scores = Table(
    "scores",
    metadata,
    Column("org_id", UUID(as_uuid=True)),
    Column("user_id", UUID(as_uuid=True), primary_key=True),
    Column("run_id", UUID(as_uuid=True), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("status", Text, nullable=False),
    Column("value", Double),
    Column("reasoning", Text, nullable=False),
    Column("run_model", Text, nullable=False),
    Column("judge_model", Text, nullable=False),
    Column("prompt_hash", Text, nullable=False),
    Column("trace_id", Text),
    Column("created_at", DateTime(timezone=True), nullable=False),
)
