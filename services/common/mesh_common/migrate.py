"""Alembic without its command line: the `migrate` command of every service, and what migrations share.

Revision ids are ordered numbers (`0001`). A database that is ahead of the code is accepted as it is: `helm
rollback` runs the old migration step against the newer schema.
"""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import structlog
from alembic import op
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from mesh_common.postgres import with_driver

log = structlog.get_logger()

# A migration that waits longer than this for a lock would itself block the running release.
_LOCK_TIMEOUT = "5s"
_CONNECT_TIMEOUT_S = 10
# Any fixed number; with the schema's name it makes the advisory lock of one service.
_ADVISORY_LOCK_CLASS = 7_310_021


def migrate(owner_database_url: str, *, schema: str, migrations: Path) -> None:
    """Brings `schema` to the newest revision under `migrations`. Safe to run from several places at once."""
    asyncio.run(_migrate(owner_database_url, schema, migrations))


def newest_revision(migrations: Path) -> str:
    """The revision that the code needs at least."""
    head = _script(migrations).get_current_head()
    if head is None:
        raise ValueError("no migrations found")
    return head


async def _migrate(url: str, schema: str, migrations: Path) -> None:
    engine = create_async_engine(
        with_driver(url, "asyncpg"), poolclass=NullPool, connect_args={"timeout": _CONNECT_TIMEOUT_S}
    )
    async with engine.begin() as connection:
        await connection.run_sync(_upgrade, schema, migrations)
    await engine.dispose()


def _upgrade(connection: Connection, schema: str, migrations: Path) -> None:
    connection.execute(
        text("SELECT pg_advisory_xact_lock(:class, hashtext(:schema))"),
        {"class": _ADVISORY_LOCK_CLASS, "schema": schema},
    )
    connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'"))
    script = _script(migrations)
    head = script.get_current_head()
    before = _current_revision(connection, schema)
    if before and head and int(before) > int(head):
        log.info("migrate.ahead", schema=schema, database=before, code=head)
        return
    _run(connection, script, schema)
    log.info("migrate.done", schema=schema, before=before, after=head)


def _run(connection: Connection, script: ScriptDirectory, schema: str) -> None:
    def steps(revision: Any, _context: Any) -> Any:
        return script._upgrade_revs("head", revision)  # noqa: SLF001 - what alembic's own `upgrade` command does

    with EnvironmentContext(Config(), script, fn=steps) as environment:
        environment.configure(connection=connection, version_table_schema=schema, transactional_ddl=True)
        environment.run_migrations()


def _current_revision(connection: Connection, schema: str) -> str | None:
    table = connection.execute(text("SELECT to_regclass(:name)"), {"name": f"{schema}.alembic_version"}).scalar()
    if table is None:
        return None
    statement = text(f"SELECT version_num FROM {schema}.alembic_version")  # noqa: S608 - our own name
    revision: str | None = connection.execute(statement).scalar_one_or_none()
    return revision


def _script(migrations: Path) -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(migrations))
    config.set_main_option("path_separator", "os")
    return ScriptDirectory.from_config(config)


def enable_row_security(schema: str, tables: Iterable[str]) -> None:
    """For migrations: the app role sees its user's rows of these tables (column `user_id`), the worker role all."""
    mine = "user_id = nullif(current_setting('mesh.user_id', true), '')::uuid"
    for table in tables:
        name = f"{schema}.{table}"
        op.execute(f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY own_rows ON {name} TO {schema}_app USING ({mine}) WITH CHECK ({mine})")
        op.execute(f"CREATE POLICY all_rows ON {name} TO {schema}_worker USING (true) WITH CHECK (true)")
