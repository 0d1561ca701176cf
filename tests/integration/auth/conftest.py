"""The auth service as it runs, on the real PostgreSQL, called over gRPC as the gateway and the agent call it."""

from collections.abc import AsyncIterator

import pytest
from fakes.auth.hasher import CountingHasher
from mesh_auth.settings import AuthSettings
from mesh_common.database.postgres import Database
from mesh_common.database.sqlalchemy_engine import open_database
from support.auth import AuthUnderTest, opened, settings_for
from support.mesh import TestMesh


@pytest.fixture(scope="session")
async def auth_settings(test_mesh: TestMesh) -> AuthSettings:
    """Settings of a service on the migrated database, with three signing keys."""
    return settings_for(test_mesh)


@pytest.fixture(scope="session")
async def auth(test_mesh: TestMesh, auth_settings: AuthSettings) -> AsyncIterator[AuthUnderTest]:
    """Auth with a fast fake hasher; test_passwords.py uses the real one."""
    async with opened(test_mesh, auth_settings, hasher=CountingHasher()) as service:
        yield service


@pytest.fixture(scope="session")
async def auth_database(auth_settings: AuthSettings) -> AsyncIterator[Database]:
    """The same database, for state that no RPC returns."""
    async with open_database(auth_settings, schema="auth") as database:
        yield database
