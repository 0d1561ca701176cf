"""A service's schema for tests of mesh_common: a separate database with a queue and one table of users' rows."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mesh_admin.bootstrap_db import BootstrapSettings, bootstrap
from mesh_admin.secrets import SecretSet
from mesh_common.database.postgres import Database
from mesh_common.database.sqlalchemy_engine import open_database
from mesh_common.jobs.table import job_table
from mesh_common.process.settings import GrpcSettings
from mesh_dev.postgres import EmbeddedPostgres
from pydantic import SecretStr
from sqlalchemy import Column, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import UUID as PG_UUID

from support.mesh import TestMesh

SCHEMA = "eval"
metadata = MetaData(schema=SCHEMA)
jobs = job_table(metadata)
notes = Table(
    "notes",
    metadata,
    Column("org_id", PG_UUID(as_uuid=True)),
    Column("user_id", PG_UUID(as_uuid=True)),
    Column("text", Text),
)

_FIRST = """
from alembic import op
from mesh_common.database.row_security import add_organisation
from mesh_common.job_queue import job_table_sql
from mesh_common.jobs.dead_letter_columns import add_dead_letter_columns
from mesh_common.jobs.paid_calls_column import add_paid_calls_column
from mesh_common.migrate import enable_row_security

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute("CREATE TABLE eval.notes (user_id uuid NOT NULL, text text NOT NULL)")
    for statement in job_table_sql("eval"):
        op.execute(statement)
    enable_row_security("eval", ["notes", "jobs"])
    added = add_dead_letter_columns("eval.jobs"), add_paid_calls_column("eval.jobs")
    for step in (*add_organisation("eval", ["notes", "jobs"]), *added):
        for statement in step.statements:
            op.execute(statement)
"""
_LATER = """
from alembic import op

revision = "{revision}"
down_revision = "{before}"


def upgrade() -> None:
    op.execute("{statement}")
"""


def write_migrations(folder: Path, *later: str) -> Path:
    """Migration 0001, and one more per statement in `later`."""
    versions = folder / "versions"
    versions.mkdir(parents=True)
    (versions / "0001_first.py").write_text(_FIRST)
    for number, statement in enumerate(later, start=2):
        text = _LATER.format(revision=f"{number:04}", before=f"{number - 1:04}", statement=statement)
        (versions / f"{number:04}_later.py").write_text(text)
    return folder


async def bootstrapped(postgres: EmbeddedPostgres, secrets: SecretSet, jwks_file: Path, name: str) -> TestMesh:
    """A database with roles and schemas. Roles belong to the server, so the passwords must be the mesh's."""
    admin_url = await postgres.create_database(name)
    passwords = {role: SecretStr(password) for role, password in secrets.passwords.items()}
    await bootstrap(BootstrapSettings(admin_database_url=SecretStr(admin_url), database_passwords=passwords))
    address = admin_url.rpartition("@")[2].partition("/")[0]
    return TestMesh(secrets, jwks_file, address)


def settings_for(test_mesh: TestMesh, database: str, **changes: Any) -> GrpcSettings:
    url = test_mesh.database_url(SCHEMA).replace("/mesh", f"/{database}")
    fields: dict[str, Any] = {
        "service_key": test_mesh.secrets.service_keys[SCHEMA],
        "service_jwks_file": test_mesh.jwks_file,
        "database_url": url,
        "database_timeout_s": 5.0,
    }
    return GrpcSettings(**(fields | changes))


@asynccontextmanager
async def open_scratch(test_mesh: TestMesh, database: str, **changes: Any) -> AsyncIterator[Database]:
    async with open_database(settings_for(test_mesh, database, **changes), schema=SCHEMA) as opened:
        yield opened
