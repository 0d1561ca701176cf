from collections.abc import AsyncIterator

import pytest
from mesh_common.database.postgres import Database
from mesh_common.database.sqlalchemy_engine import open_database
from mesh_memory.settings import MemorySettings
from support.memory import MemoryClient, memory_settings, open_memory
from support.mesh import TestMesh


@pytest.fixture(scope="session")
async def memory_mesh(test_mesh: TestMesh) -> TestMesh:
    """The mesh with the schema of memory."""
    return test_mesh


@pytest.fixture(scope="session")
def settings(memory_mesh: TestMesh, simulator_url: str) -> MemorySettings:
    """Settings with an extraction model."""
    return memory_settings(memory_mesh, simulator_url, extraction_model="sim-small")


@pytest.fixture(scope="session")
async def database(settings: MemorySettings) -> AsyncIterator[Database]:
    async with open_database(settings, schema="memory") as database:
        yield database


@pytest.fixture(scope="module")
async def memory(settings: MemorySettings, memory_mesh: TestMesh) -> AsyncIterator[MemoryClient]:
    """The service with an extraction model. It ends with its test module, because its worker claims all jobs."""
    async with open_memory(settings, memory_mesh) as client:
        yield client
