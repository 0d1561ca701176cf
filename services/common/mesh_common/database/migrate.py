"""Alembic without its command line: the `migrate` command of every service.

Revision ids are ordered numbers (`0001`). A database that is ahead of the code is accepted as it is: `helm
rollback` runs the old migration step against the newer schema.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.pool import NullPool

from mesh_common.database.faults import told_in_one_line
from mesh_common.database.postgres import open_engine

log = structlog.get_logger()

# A migration that waits longer than this for a lock would itself block the running release.
_LOCK_TIMEOUT_S = 5.0
_CONNECT_TIMEOUT_S = 10.0
# Any fixed number; with the schema's name it makes the advisory lock of one service.
_ADVISORY_LOCK_CLASS = 7_310_021


def migrate(owner_database_url: str, *, schema: str, migrations: Path, timeout_s: float = 600.0) -> None:
    """Brings `schema` to the newest revision under `migrations`. Safe to run from several places at once.

    Raises:
        Unavailable: the database cannot be reached, or all of it took longer than `timeout_s`. Nothing was changed.
        PreconditionFailed: a migration failed. Nothing was changed.
    """
    run = _Run(schema, _script(migrations), timeout_s)
    with told_in_one_line(owner_database_url, run.title):
        asyncio.run(_migrate(owner_database_url, run))


@dataclass(slots=True)
class _Run:
    """`revision` is the one that is being applied."""

    schema: str
    script: ScriptDirectory
    timeout_s: float
    revision: str = ""

    def at_most(self, seconds: float) -> float:
        return min(seconds, self.timeout_s)

    def title(self) -> str:
        return f"Migration {self.revision} of {self.schema}" if self.revision else f"Migration of {self.schema}"


async def _migrate(url: str, run: _Run) -> None:
    timeouts = {"timeout": run.at_most(_CONNECT_TIMEOUT_S), "command_timeout": run.timeout_s}
    engine = open_engine(url, "asyncpg", timeouts, poolclass=NullPool)
    async with asyncio.timeout(run.timeout_s), engine.begin() as connection:
        await connection.run_sync(_upgrade, run)
    await engine.dispose()


def _upgrade(connection: Connection, run: _Run) -> None:
    schema = run.schema
    # Another one may be at it, and may take all of its time.
    _set_local(connection, lock_timeout=run.timeout_s, statement_timeout=run.timeout_s)
    connection.execute(
        text("SELECT pg_advisory_xact_lock(:class, hashtext(:schema))"),
        {"class": _ADVISORY_LOCK_CLASS, "schema": schema},
    )
    _set_local(connection, lock_timeout=run.at_most(_LOCK_TIMEOUT_S))
    head = run.script.get_current_head()
    before = _current_revision(connection, schema)
    if before and head and int(before) > int(head):
        log.info("migrate.ahead", schema=schema, database=before, code=head)
        return
    _apply(connection, run)
    log.info("migrate.done", schema=schema, before=before, after=head)


def _set_local(connection: Connection, **timeouts_s: float) -> None:
    for name, seconds in timeouts_s.items():
        connection.execute(text(f"SET LOCAL {name} = {int(seconds * 1000)}"))


def _apply(connection: Connection, run: _Run) -> None:
    def steps(revision: Any, _context: Any) -> Iterator[Any]:
        # What alembic's own `upgrade` command does.
        for step in run.script._upgrade_revs("head", revision):  # noqa: SLF001
            run.revision = step.revision.revision
            log.info("migrate.step", schema=run.schema, revision=run.revision)
            yield step

    with EnvironmentContext(Config(), run.script, fn=steps) as environment:
        environment.configure(connection=connection, version_table_schema=run.schema, transactional_ddl=True)
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
