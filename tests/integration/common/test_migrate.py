"""The `migrate` command on a database of its own."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from mesh_common.database.migrate import migrate
from mesh_common.database.revisions import newest_revision
from mesh_common.errors import PreconditionFailed
from mesh_dev.postgres import EmbeddedPostgres
from sqlalchemy import text
from support.mesh import TestMesh
from support.net import free_port
from support.scratch import SCHEMA, bootstrapped, open_scratch, write_migrations

Migrate = Callable[[Path], Awaitable[None]]


@pytest.fixture
async def name(postgres: EmbeddedPostgres, test_mesh: TestMesh, request: pytest.FixtureRequest) -> str:
    """An empty database for this test alone."""
    name = f"migrate_{abs(hash(request.node.name)) % 10**9}"
    await bootstrapped(postgres, test_mesh.secrets, test_mesh.jwks_file, name)
    return name


@pytest.fixture
def migrated(test_mesh: TestMesh, name: str) -> Migrate:
    url = test_mesh.database_url(SCHEMA, "owner").replace("/mesh", f"/{name}")
    return lambda folder: asyncio.to_thread(migrate, url, schema=SCHEMA, migrations=folder)


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


async def test_a_service_is_unready_with_a_reason_while_postgres_is_away(test_mesh: TestMesh) -> None:
    url = f"postgresql://a:b@127.0.0.1:{free_port()}/mesh"
    async with open_scratch(test_mesh, "mesh", database_url=url) as database:
        assert await database.not_ready_reason("0001") == "PostgreSQL cannot be reached"


async def _revision(test_mesh: TestMesh, name: str) -> str:
    async with open_scratch(test_mesh, name) as database, database.as_worker() as connection:
        return str((await connection.execute(text("SELECT version_num FROM eval.alembic_version"))).scalar_one())
