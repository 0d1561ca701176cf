import asyncio
from collections.abc import AsyncIterator

import pytest
from mesh_common.database.migrate import migrate
from mesh_common.database.postgres import Database
from mesh_common.database.sqlalchemy_engine import open_database
from mesh_dev.postgres import EmbeddedPostgres
from mesh_eval.bootstrap import MIGRATIONS
from mesh_eval.settings import EvalSettings
from pydantic import SecretStr
from support.eval import EvalClient, eval_settings, open_eval
from support.mesh import TestMesh
from support.scratch import bootstrapped
from support.spans import spans

__all__ = ["spans"]


@pytest.fixture(scope="session")
async def settings(test_mesh: TestMesh, simulator_url: str) -> EvalSettings:
    """Settings of a service on the migrated database."""
    return eval_settings(test_mesh, simulator_url)


@pytest.fixture(scope="session")
async def settings_alone(settings: EvalSettings, test_mesh: TestMesh, postgres: EmbeddedPostgres) -> EvalSettings:
    """Settings of a service on a database of its own, where no other worker claims its jobs."""
    await bootstrapped(postgres, test_mesh.secrets, test_mesh.jwks_file, "eval_alone")
    owner_url = test_mesh.database_url("eval", "owner").replace("/mesh", "/eval_alone")
    await asyncio.to_thread(migrate, owner_url, schema="eval", migrations=MIGRATIONS)
    url = test_mesh.database_url("eval").replace("/mesh", "/eval_alone")
    return settings.model_copy(update={"database_url": SecretStr(url)})


@pytest.fixture(scope="session")
async def database(settings: EvalSettings) -> AsyncIterator[Database]:
    async with open_database(settings, schema="eval") as database:
        yield database


@pytest.fixture(scope="session")
async def eval_service(settings: EvalSettings, test_mesh: TestMesh) -> AsyncIterator[EvalClient]:
    async with open_eval(test_mesh, settings) as client:
        yield client
