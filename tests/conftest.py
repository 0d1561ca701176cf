"""The real parts that integration tests share: one PostgreSQL and one Valkey a session."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mesh_admin.bootstrap_db import BootstrapSettings, bootstrap
from mesh_admin.secrets import make_secrets
from mesh_dev.postgres import EmbeddedPostgres
from mesh_dev.valkey import EmbeddedValkey
from pydantic import SecretStr
from support.mesh import TestMesh
from support.net import free_port


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks each test by its folder, so that no file has to say what it is."""
    for item in items:
        # The folder right under tests/: tests/unit/chaos holds unit tests.
        item.add_marker(item.path.relative_to(Path(__file__).parent).parts[0])


@pytest.fixture(scope="session")
async def postgres(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedPostgres]:
    """A real PostgreSQL; tests keep apart by their users, as the product does."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), free_port())
    await server.start()
    yield server
    await server.stop()


@pytest.fixture(scope="session")
async def valkey(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedValkey]:
    server = EmbeddedValkey(tmp_path_factory.mktemp("valkey"), free_port())
    await server.start()
    yield server
    await server.stop()


@pytest.fixture(scope="session")
async def test_mesh(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> TestMesh:
    """Secrets and a database `mesh` with every role and schema, not migrated."""
    secret_set = make_secrets()
    jwks_file: Path = tmp_path_factory.mktemp("keys") / "service-jwks.json"
    jwks_file.write_text(secret_set.service_jwks())
    admin_url = await postgres.create_database("mesh")
    passwords = {role: SecretStr(password) for role, password in secret_set.passwords.items()}
    await bootstrap(BootstrapSettings(admin_database_url=SecretStr(admin_url), database_passwords=passwords))
    database = admin_url.rpartition("@")[2].partition("/")[0]
    return TestMesh(secret_set, jwks_file, database)
