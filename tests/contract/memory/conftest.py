from collections.abc import AsyncIterator

import pytest
from fakes.memory.store import FakeUnitOfWork
from mesh_common.database.postgres import Database
from mesh_common.database.sqlalchemy_engine import open_database
from mesh_common.jobs.queue import JobQueue
from mesh_memory.ports import UnitOfWork
from mesh_memory.store import PostgresUnitOfWork
from support.memory import memory_settings
from support.mesh import TestMesh


@pytest.fixture(scope="session")
async def memory_database(test_mesh: TestMesh) -> AsyncIterator[Database]:
    # These tests call no model.
    settings = memory_settings(test_mesh, "http://127.0.0.1:9")
    async with open_database(settings, schema="memory") as database:
        yield database


@pytest.fixture(params=["fake", "postgres"])
def unit_of_work(request: pytest.FixtureRequest, memory_database: Database) -> UnitOfWork:
    if request.param == "fake":
        return FakeUnitOfWork()
    return PostgresUnitOfWork(memory_database, JobQueue("memory.jobs"))
