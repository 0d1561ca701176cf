"""Data stored by release 0.1.0 is converted in place, and its replicas keep working next to those of this release."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mesh_common.database.postgres import Database
from mesh_common.database.sqlalchemy_engine import open_database
from mesh_common.ids import UserId, new_id
from mesh_dev.postgres import EmbeddedPostgres
from pydantic import SecretStr
from support.mesh import TestMesh
from support.release_0_1_0 import MIGRATIONS, OldDatabase
from support.row_security import expected_of, tables_of, who_sees
from support.scratch import bootstrapped, settings_for

_ORGANISATIONS = {"organisations", "memberships"}
# Tables that 0.1.0 does not write.
_NEW = {"login_addresses", "forget_generations", "forgotten_threads", "interrupts", "assistants", "assistant_versions"}


@pytest.fixture(params=list(MIGRATIONS))
async def old(
    postgres: EmbeddedPostgres, test_mesh: TestMesh, request: pytest.FixtureRequest, tmp_path: Path
) -> OldDatabase:
    """A schema of 0.1.0 for this test only."""
    name = f"old_{request.param}_{abs(hash(request.node.name)) % 10**9}"
    await bootstrapped(postgres, test_mesh.secrets, test_mesh.jwks_file, name)
    old = OldDatabase(test_mesh, name, request.param)
    await asyncio.to_thread(old.migrate_to_0_1_0, tmp_path / "old")
    return old


@pytest.fixture
async def database(old: OldDatabase, test_mesh: TestMesh) -> AsyncIterator[Database]:
    settings = settings_for(test_mesh, old.name, database_url=SecretStr(old.url()))
    async with open_database(settings, schema=old.schema) as opened:
        yield opened


async def test_every_row_gets_the_personal_organisation_of_its_user(old: OldDatabase, database: Database) -> None:
    users = [new_id() for _ in range(3)]
    for user_id in users:
        await old.add_rows(user_id)

    await asyncio.to_thread(old.migrate)

    assert await _organisations(old, database) == {table: set(users) for table in await _old_tables_of(database)}


async def test_rows_of_0_1_0_are_the_users_before_they_are_filled_and_after(
    old: OldDatabase, database: Database
) -> None:
    """Replicas of 0.1.0 keep working after the migration, until the last of them is replaced."""
    await asyncio.to_thread(old.migrate)
    user_id = UserId(new_id())

    await old.add_rows(user_id)

    for table in await _old_tables_of(database):
        if table not in _ORGANISATIONS:
            assert await who_sees(database, table, user_id) == expected_of(old.schema, table)


async def test_the_next_migration_fills_what_0_1_0_has_added_since(old: OldDatabase, database: Database) -> None:
    await asyncio.to_thread(old.migrate)
    user_id = new_id()
    await old.add_rows(user_id)

    await asyncio.to_thread(old.migrate)

    assert await _organisations(old, database) == {table: {user_id} for table in await _old_tables_of(database)}


async def _old_tables_of(database: Database) -> list[str]:
    return [table for table in await tables_of(database) if table not in _NEW]


async def _organisations(old: OldDatabase, database: Database) -> dict[str, set[object]]:
    """The organisations in each table. Asserts that each row has the personal one of its user."""
    found: dict[str, set[object]] = {}
    async with old.connection("owner") as connection:
        for table in await _old_tables_of(database):
            rows = await connection.fetch(f"SELECT org_id, user_id FROM {old.schema}.{table}")  # noqa: S608 - our tables
            assert all(row["org_id"] == row["user_id"] for row in rows), table
            found[table] = {row["org_id"] for row in rows}
    return found
