"""Alembic without its command line: the `migrate` command of every service.

Revision ids are ordered numbers (`0001`). A database that is ahead of the code is left unchanged: `helm rollback` runs
the old migration step against the newer schema. Revisions change the schema in one transaction. A revision's module may
define `online` steps, which run before it (module `online`), and `backfills`, which run after all revisions (module
`backfill`).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import NullPool

from mesh_common.database.backfill import run_backfill
from mesh_common.database.connections import sqlstate
from mesh_common.database.faults import reported_in_one_line
from mesh_common.database.online import ConcurrentIndex, OnlineStep, build_index, run_online
from mesh_common.database.sqlalchemy_engine import open_engine

log = structlog.get_logger()

# While a migration waits for a lock, statements of the running release queue behind it. Below PostgreSQL's
# deadlock_timeout (1 s), as in the module `online`.
_LOCK_TIMEOUT_S = 0.8
_BETWEEN_TRIES_S = 0.2
# A transaction of the running release that stays open for longer has to be looked at by the operator.
_LOCKS_WITHIN_S = 10.0
_LOCK_NOT_AVAILABLE = "55P03"
_CONNECT_TIMEOUT_S = 10.0
# The most that one service's rows delay the schemas of the services that are migrated after it. All four together stay
# far below the 15 min that the chart and the manual allow for an upgrade, so a long backfill never leaves a schema
# unmigrated. At the speed of `backfill._BLOCKS_PER_BATCH`, 60 s fill about 2 million rows.
BACKFILL_S = 60.0
# For canceling the statement that is running when the time for backfills is over, and for closing the connection.
_RESERVE_S = 5.0
# Any fixed number; with the hash of the schema's name it forms the key of the service's advisory lock.
_ADVISORY_LOCK_CLASS = 7_310_021


def migrate(
    owner_database_url: str,
    *,
    schema: str,
    migrations: Path,
    timeout_s: float = 600.0,
    backfill_s: float = BACKFILL_S,
) -> None:
    """Brings `schema` to the newest revision under `migrations` and fills old rows. Safe to run concurrently.

    Changing the schema has `timeout_s`. All backfills together then have `backfill_s`, or what is left of `timeout_s`
    if that is less. Rows that are still pending are not a failure: the next run continues. An interrupted run keeps the
    steps that its log reports as done.

    Raises:
        Unavailable: the database cannot be reached, or changing the schema took longer than `timeout_s`.
        PreconditionFailed: a migration failed. Its transaction was rolled back.
    """
    run = _Run(schema, _script(migrations), timeout_s, backfill_s)
    with reported_in_one_line(owner_database_url, run.title):
        asyncio.run(_migrate(owner_database_url, run))


@dataclass(slots=True)
class _Run:
    """`revision` is the one being applied."""

    schema: str
    script: ScriptDirectory
    timeout_s: float
    backfill_s: float
    revision: str = ""

    def at_most(self, seconds: float) -> float:
        return min(seconds, self.timeout_s)

    def title(self) -> str:
        return f"Migration {self.revision} of {self.schema}" if self.revision else f"Migration of {self.schema}"


async def _migrate(url: str, run: _Run) -> None:
    timeouts = {"timeout": run.at_most(_CONNECT_TIMEOUT_S), "command_timeout": run.timeout_s}
    engine = open_engine(url, timeouts, poolclass=NullPool)
    until_s = time.monotonic() + run.timeout_s
    async with asyncio.timeout(run.timeout_s), _exclusively(engine, run):
        is_ahead = await _change_schema(engine, run, until_s)
        if not is_ahead:
            await _fill(engine, run, min(time.monotonic() + run.backfill_s, until_s - _RESERVE_S))
    await engine.dispose()


@asynccontextmanager
async def _exclusively(engine: AsyncEngine, run: _Run) -> AsyncIterator[None]:
    """Excludes other runs on this schema; waits up to `timeout_s` for one to end."""
    async with engine.connect() as connection:
        await connection.run_sync(_set_local, lock_timeout=run.timeout_s, statement_timeout=run.timeout_s)
        await connection.execute(
            text("SELECT pg_advisory_lock(:class, hashtext(:schema))"),
            {"class": _ADVISORY_LOCK_CLASS, "schema": run.schema},
        )
        await connection.commit()
        # The lock belongs to the session, which ends with this block.
        yield


async def _change_schema(engine: AsyncEngine, run: _Run, until_s: float) -> bool:
    """True if the database is ahead of the code; it is then left unchanged.

    The revisions before one with online steps are committed before these steps. All others are one transaction.
    """
    async with engine.begin() as connection:
        before = await connection.run_sync(_current_revision, run.schema)
    head = run.script.get_current_head()
    if before and head and int(before) > int(head):
        log.info("migrate.ahead", schema=run.schema, database=before, code=head)
        return True
    reached = before
    for revision in _revisions(run.script, after=before):
        if steps := getattr(revision.module, "online", ()):
            await _upgrade(engine, run, reached)
            run.revision = revision.revision
            await _run_all(engine, steps, until_s)
        reached = revision.revision
    await _upgrade(engine, run, reached)
    log.info("migrate.done", schema=run.schema, before=before, after=head)
    return False


def _revisions(script: ScriptDirectory, *, after: str | None = None) -> list[Script]:
    """Oldest first."""
    found = reversed(list(script.walk_revisions()))
    return [revision for revision in found if after is None or int(revision.revision) > int(after)]


async def _run_all(engine: AsyncEngine, steps: Sequence[OnlineStep | ConcurrentIndex], until_s: float) -> None:
    for step in steps:
        async with engine.connect() as connection:
            if isinstance(step, ConcurrentIndex):
                await build_index(await _in_autocommit(connection), step, until_s=until_s)
            else:
                await run_online(connection, step, until_s=until_s)


async def _in_autocommit(connection: AsyncConnection) -> AsyncConnection:
    return await connection.execution_options(isolation_level="AUTOCOMMIT")


async def _fill(engine: AsyncEngine, run: _Run, until_s: float) -> None:
    async with engine.connect() as connection:
        for revision in _revisions(run.script):
            for backfill in getattr(revision.module, "backfills", ()):
                await run_backfill(connection, backfill, until_s=until_s)


async def _upgrade(engine: AsyncEngine, run: _Run, target: str | None) -> None:
    """One transaction. If it has to wait for a lock, it is rolled back and tried again."""
    if target is None:
        return None
    until_s = time.monotonic() + _LOCKS_WITHIN_S
    while True:
        try:
            return await _upgrade_once(engine, run, target)
        except DBAPIError as error:
            if sqlstate(error) != _LOCK_NOT_AVAILABLE or time.monotonic() >= until_s:
                raise
        log.info("migrate.waits_for_lock", schema=run.schema, revision=run.revision)
        await asyncio.sleep(_BETWEEN_TRIES_S)


async def _upgrade_once(engine: AsyncEngine, run: _Run, target: str) -> None:
    async with engine.begin() as connection:
        await connection.run_sync(
            _set_local, lock_timeout=run.at_most(_LOCK_TIMEOUT_S), statement_timeout=run.timeout_s
        )
        await connection.run_sync(_apply, run, target)


def _set_local(connection: Connection, /, **timeouts_s: float) -> None:
    for name, seconds in timeouts_s.items():
        connection.execute(text(f"SET LOCAL {name} = {int(seconds * 1000)}"))


def _apply(connection: Connection, run: _Run, target: str) -> None:
    def steps(revision: Any, _context: Any) -> Iterator[Any]:
        # As in alembic's own `upgrade` command.
        for step in run.script._upgrade_revs(target, revision):  # noqa: SLF001
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
