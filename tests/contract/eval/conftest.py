from collections.abc import AsyncIterator

import pytest
from fakes.eval.store import FakeUnitOfWork
from mesh_common.database.postgres import Database
from mesh_common.database.sqlalchemy_engine import open_database
from mesh_eval.ports import UnitOfWork
from mesh_eval.store import PostgresUnitOfWork
from support.eval import eval_settings
from support.mesh import TestMesh


@pytest.fixture(scope="session")
async def eval_database(test_mesh: TestMesh) -> AsyncIterator[Database]:
    # These tests call no model.
    async with open_database(eval_settings(test_mesh, "http://127.0.0.1:9"), schema="eval") as database:
        yield database


@pytest.fixture(params=["fake", "postgres"])
def uow(request: pytest.FixtureRequest, eval_database: Database) -> UnitOfWork:
    return FakeUnitOfWork() if request.param == "fake" else PostgresUnitOfWork(eval_database)
