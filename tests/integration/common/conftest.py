import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mesh_admin.secrets import SecretSet, make_secrets
from mesh_common.database.migrate import migrate
from mesh_common.database.postgres import Database
from mesh_dev.postgres import EmbeddedPostgres
from sqlalchemy import delete
from support.databases import KINDS, Kind, Opened, opened
from support.grpc_echo import Echo, open_echo
from support.mesh import TestMesh
from support.scratch import SCHEMA, bootstrapped, jobs, open_scratch, settings_for, write_migrations
from support.spans import spans

__all__ = ["spans"]


@pytest.fixture(scope="session")
def secrets() -> SecretSet:
    return make_secrets()


@pytest.fixture
async def evals(secrets: SecretSet) -> AsyncIterator[Echo]:
    """A scripted service in place of eval."""
    async with open_echo(secrets, service="eval") as echo:
        yield echo


@pytest.fixture
async def agents(secrets: SecretSet) -> AsyncIterator[Echo]:
    """A scripted service in place of the agent."""
    async with open_echo(secrets, service="agent") as echo:
        yield echo


@pytest.fixture(scope="session")
async def scratch_mesh(postgres: EmbeddedPostgres, test_mesh: TestMesh) -> TestMesh:
    """The mesh with an additional database, `scratch`, bootstrapped but not migrated."""
    await bootstrapped(postgres, test_mesh.secrets, test_mesh.jwks_file, "scratch")
    return test_mesh


@pytest.fixture(scope="session")
def owner_url(scratch_mesh: TestMesh) -> str:
    return scratch_mesh.database_url(SCHEMA, "owner").replace("/mesh", "/scratch")


@pytest.fixture(scope="session")
async def database(
    scratch_mesh: TestMesh, owner_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Database]:
    """The pool of a service whose schema has the tables notes and jobs."""
    migrations: Path = write_migrations(tmp_path_factory.mktemp("migrations"))
    await asyncio.to_thread(migrate, owner_url, schema=SCHEMA, migrations=migrations)
    async with open_scratch(scratch_mesh, "scratch") as scratch:
        yield scratch


@pytest.fixture
async def empty_queue(database: Database) -> AsyncIterator[None]:
    async with database.as_worker() as connection:
        await connection.execute(delete(jobs))
    yield
    async with database.as_worker() as connection:
        await connection.execute(delete(jobs))


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture
async def pool(kind: Kind, scratch_mesh: TestMesh) -> AsyncIterator[Opened]:
    async with opened(kind, settings_for(scratch_mesh, "scratch")) as it:
        yield it
