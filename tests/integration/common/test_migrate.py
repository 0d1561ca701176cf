"""The `migrate` command on a database of its own."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from mesh_common.database.migrate import migrate
from mesh_common.database.postgres import Database
from mesh_common.database.revisions import newest_revision
from mesh_common.errors import PreconditionFailed
from mesh_dev.postgres import EmbeddedPostgres
from sqlalchemy import text
from support.mesh import TestMesh
from support.net import free_port
from support.scratch import SCHEMA, bootstrapped, open_scratch, write_migrations

Migrate = Callable[..., Coroutine[Any, Any, None]]


@pytest.fixture
async def name(postgres: EmbeddedPostgres, test_mesh: TestMesh, request: pytest.FixtureRequest) -> str:
    """An empty database for this test only."""
    name = f"migrate_{abs(hash(request.node.name)) % 10**9}"
    await bootstrapped(postgres, test_mesh.secrets, test_mesh.jwks_file, name)
    return name


@pytest.fixture
def migrated(test_mesh: TestMesh, name: str) -> Migrate:
    url = test_mesh.database_url(SCHEMA, "owner").replace("/mesh", f"/{name}")
    return lambda folder, **limits: asyncio.to_thread(migrate, url, schema=SCHEMA, migrations=folder, **limits)


async def test_runs_at_once_migrate_once(test_mesh: TestMesh, name: str, migrated: Migrate, tmp_path: Path) -> None:
    folder = write_migrations(tmp_path / "m", "CREATE TABLE eval.more (id int)")

    await asyncio.gather(*(migrated(folder) for _ in range(4)))

    assert await _revision(test_mesh, name) == "0002"


async def test_only_what_is_missing_is_run(test_mesh: TestMesh, name: str, migrated: Migrate, tmp_path: Path) -> None:
    await migrated(write_migrations(tmp_path / "old"))

    await migrated(write_migrations(tmp_path / "new", "CREATE TABLE eval.more (id int)"))

    assert await _revision(test_mesh, name) == "0002"


async def test_a_database_ahead_of_the_code_is_left_as_it_is(
    test_mesh: TestMesh, name: str, migrated: Migrate, tmp_path: Path
) -> None:
    old = write_migrations(tmp_path / "old")
    await migrated(write_migrations(tmp_path / "new", "CREATE TABLE eval.more (id int)"))

    await migrated(old)

    assert await _revision(test_mesh, name) == "0002"
    async with open_scratch(test_mesh, name) as database:
        assert await database.not_ready_reason(newest_revision(old)) is None


async def test_a_migration_that_fails_changes_nothing(
    test_mesh: TestMesh, name: str, migrated: Migrate, tmp_path: Path
) -> None:
    await migrated(write_migrations(tmp_path / "old"))

    with pytest.raises(PreconditionFailed, match='Migration 0003 of eval failed: relation "more" already exists '):
        await migrated(
            write_migrations(tmp_path / "new", "CREATE TABLE eval.more (id int)", "CREATE TABLE eval.more (id int)")
        )

    assert await _revision(test_mesh, name) == "0001"


async def test_a_service_is_unready_with_a_reason_until_its_schema_is_new_enough(
    test_mesh: TestMesh, name: str, migrated: Migrate, tmp_path: Path
) -> None:
    async with open_scratch(test_mesh, name) as database:
        before = await database.not_ready_reason("0002")
        await migrated(write_migrations(tmp_path / "old"))
        older = await database.not_ready_reason("0002")
        await migrated(write_migrations(tmp_path / "new", "CREATE TABLE eval.more (id int)"))
        after = await database.not_ready_reason("0002")

    assert before == "the schema is not migrated"
    assert older == "the schema is older than the code"
    assert after is None


async def test_a_service_is_unready_with_a_reason_while_postgres_is_unavailable(test_mesh: TestMesh) -> None:
    url = f"postgresql://a:b@127.0.0.1:{free_port()}/mesh"
    async with open_scratch(test_mesh, "mesh", database_url=url) as database:
        assert await database.not_ready_reason("0001") == "PostgreSQL cannot be reached"


_ONLINE = """
from alembic import op
from mesh_common.database.backfill import Backfill, update_backfill
from mesh_common.database.online import OnlineStep

revision = "0002"
down_revision = "0001"

online = (
    OnlineStep(
        "notes",
        ("ALTER TABLE eval.notes ADD COLUMN mark int",),
        "EXISTS (SELECT FROM information_schema.columns WHERE table_schema = 'eval' AND column_name = 'mark')",
    ),
)
backfills = ({backfill},)


def upgrade() -> None:
    op.execute("{statement}")
"""


_WITH_INDEX = """
from mesh_common.database.online import ConcurrentIndex

revision = "0002"
down_revision = "0001"

online = (ConcurrentIndex("eval.notes_text", "ON eval.notes (text)"),)


def upgrade() -> None: ...
"""


def _with_index(folder: Path) -> Path:
    write_migrations(folder)
    (folder / "versions" / "0002_index.py").write_text(_WITH_INDEX)
    return folder


async def _valid_indexes(test_mesh: TestMesh, name: str) -> list[bool]:
    statement = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('eval.notes_text')"
    async with open_scratch(test_mesh, name) as database, database.as_worker() as connection:
        return list((await connection.execute(text(statement))).scalars())


async def test_an_index_is_built_while_others_write_its_table(
    test_mesh: TestMesh, name: str, migrated: Migrate, tmp_path: Path
) -> None:
    await migrated(write_migrations(tmp_path / "old"))
    insert = text("INSERT INTO eval.notes (user_id, text) VALUES (gen_random_uuid(), 'x')")
    building = text("""
        SELECT count(*) FROM pg_locks WHERE relation = 'eval.notes'::regclass AND mode = 'ShareUpdateExclusiveLock'
    """)
    async with (
        open_scratch(test_mesh, name) as database,
        asyncio.TaskGroup() as group,
        database.as_worker() as writer,
    ):
        await writer.execute(insert)
        group.create_task(migrated(_with_index(tmp_path / "new")))
        async with database.as_worker() as watcher, asyncio.timeout(10):
            while not (await watcher.execute(building)).scalar_one():
                pass
        async with database.as_worker() as other:
            await other.execute(text("SET LOCAL lock_timeout = 1000"))
            await other.execute(insert)

    assert await _valid_indexes(test_mesh, name) == [True]
    assert await _revision(test_mesh, name) == "0002"


async def test_an_index_that_an_interrupted_run_left_invalid_is_built_anew(
    test_mesh: TestMesh, name: str, migrated: Migrate, tmp_path: Path
) -> None:
    await migrated(write_migrations(tmp_path / "old"))
    connection = await asyncpg.connect(test_mesh.database_url(SCHEMA, "owner").replace("/mesh", f"/{name}"))
    try:
        await connection.execute("INSERT INTO eval.notes VALUES (gen_random_uuid(), 'x'), (gen_random_uuid(), 'x')")
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.execute("CREATE UNIQUE INDEX CONCURRENTLY notes_text ON eval.notes (text)")
    finally:
        await connection.close()
    before = await _valid_indexes(test_mesh, name)

    await migrated(_with_index(tmp_path / "new"))
    await migrated(_with_index(tmp_path / "again"))

    assert before == [False]
    assert await _valid_indexes(test_mesh, name) == [True]


_FILL = 'update_backfill("eval.notes", "mark = 1", "old.mark IS NULL")'
# The statement fails on every table that has a block.
_NOTHING_PENDING = """
    Backfill("eval.notes", "UPDATE eval.notes SET mark = 1 / 0 WHERE ctid >= :first AND ctid < :after", "old.text = ''")
"""


def _with_online(folder: Path, statement: str = "SELECT 1", backfill: str = _FILL) -> Path:
    """Migrations of which the second adds a column online and fills it."""
    write_migrations(folder)
    (folder / "versions" / "0002_online.py").write_text(_ONLINE.format(statement=statement, backfill=backfill))
    return folder


async def test_an_online_step_waits_for_its_table_and_holds_up_nobody(
    test_mesh: TestMesh, name: str, migrated: Migrate, tmp_path: Path
) -> None:
    await migrated(write_migrations(tmp_path / "old"))
    async with open_scratch(test_mesh, name) as database:
        async with database.as_worker() as reader:
            await reader.execute(text("SELECT count(*) FROM eval.notes"))
            migration = asyncio.create_task(migrated(_with_online(tmp_path / "new")))  # noqa: TID251 - awaited below
            took_s = []
            for _ in range(5):
                began_s = time.perf_counter()
                async with database.as_worker() as other:
                    await other.execute(text("SELECT count(*), pg_sleep(0.2) FROM eval.notes"))
                took_s.append(time.perf_counter() - began_s)
            was_waiting = not migration.done()
        await migration

    assert was_waiting
    assert max(took_s) < 2
    assert await _revision(test_mesh, name) == "0002"


async def test_what_was_done_online_is_kept_and_not_done_again_after_a_failure(
    test_mesh: TestMesh, name: str, migrated: Migrate, tmp_path: Path
) -> None:
    with pytest.raises(PreconditionFailed, match="Migration 0002 of eval failed: division by zero"):
        await migrated(_with_online(tmp_path / "broken", "SELECT 1 / 0"))
    after_failure = await _revision(test_mesh, name)

    await migrated(_with_online(tmp_path / "mended"))

    assert (after_failure, await _revision(test_mesh, name)) == ("0001", "0002")


async def test_a_backfill_passes_over_a_locked_row_and_comes_back_for_it(
    test_mesh: TestMesh, name: str, migrated: Migrate, tmp_path: Path
) -> None:
    await migrated(write_migrations(tmp_path / "old"))
    folder = _with_online(tmp_path / "new")
    # The holder's transaction is idle during a whole migration, on a machine that does other work.
    async with open_scratch(test_mesh, name, database_timeout_s=60.0) as database:
        async with database.as_worker() as connection:
            nine = "INSERT INTO eval.notes (user_id, text) SELECT gen_random_uuid(), n FROM generate_series(1, 9) n"
            await connection.execute(text(nine))
        await migrated(folder)
        await _add_note(database)
        async with database.as_worker() as holder:
            await holder.execute(text("SELECT text FROM eval.notes WHERE text = 'late' FOR UPDATE"))
            await migrated(folder)
            while_held = await _unmarked(database)
        await migrated(folder)

        assert (while_held, await _unmarked(database)) == (1, 0)


async def test_a_backfill_whose_time_is_over_is_no_failure_and_is_continued(
    test_mesh: TestMesh, name: str, migrated: Migrate, tmp_path: Path
) -> None:
    folder = _with_online(tmp_path / "new")
    await migrated(folder)
    async with open_scratch(test_mesh, name) as database:
        await _add_note(database)
        async with _table_locked(test_mesh, name):
            await migrated(folder, backfill_s=0.5)
        after_timeout = await _unmarked(database)
        await migrated(folder)

        assert (after_timeout, await _unmarked(database)) == (1, 0)


async def test_a_table_without_pending_rows_is_not_filled(
    test_mesh: TestMesh, name: str, migrated: Migrate, tmp_path: Path
) -> None:
    await migrated(write_migrations(tmp_path / "old"))
    async with open_scratch(test_mesh, name) as database:
        await _add_note(database)

        await migrated(_with_online(tmp_path / "new", backfill=_NOTHING_PENDING))

        assert await _unmarked(database) == 1


async def _add_note(database: Database) -> None:
    async with database.as_worker() as connection:
        await connection.execute(text("INSERT INTO eval.notes (user_id, text) VALUES (gen_random_uuid(), 'late')"))


@asynccontextmanager
async def _table_locked(test_mesh: TestMesh, name: str) -> AsyncIterator[None]:
    """Nobody else can read the table."""
    owner = await asyncpg.connect(test_mesh.database_url(SCHEMA, "owner").replace("/mesh", f"/{name}"))
    try:
        async with owner.transaction():
            await owner.execute("LOCK TABLE eval.notes")
            yield
    finally:
        await owner.close()


async def _unmarked(database: Database) -> int:
    async with database.as_worker() as connection:
        return int((await connection.execute(text("SELECT count(*) FROM eval.notes WHERE mark IS NULL"))).scalar_one())


async def _revision(test_mesh: TestMesh, name: str) -> str:
    async with open_scratch(test_mesh, name) as database, database.as_worker() as connection:
        return str((await connection.execute(text("SELECT version_num FROM eval.alembic_version"))).scalar_one())
