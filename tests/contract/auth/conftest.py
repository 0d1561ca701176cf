"""The two stores of auth, tested by one suite."""

from collections.abc import AsyncIterator

import pytest
from fakes.auth.store import InMemoryAuthDatabase
from mesh_auth.ports import AuthDatabase
from mesh_auth.store.accounts import PostgresAuthDatabase
from mesh_common.database.sqlalchemy_engine import open_database
from support.auth import settings_for
from support.mesh import TestMesh


@pytest.fixture(scope="module")
async def real(test_mesh: TestMesh) -> AsyncIterator[AuthDatabase]:
    async with open_database(settings_for(test_mesh), schema="auth") as database:
        yield PostgresAuthDatabase(database)


@pytest.fixture(params=["memory", "postgres"])
def database(request: pytest.FixtureRequest) -> AuthDatabase:
    return InMemoryAuthDatabase() if request.param == "memory" else request.getfixturevalue("real")
