"""A server that listens and refuses: asyncpg's own errors of connecting, which SQLAlchemy does not wrap."""

import pytest
from mesh_common.errors import Unavailable
from mesh_common.postgres import Database
from support.mesh import TestMesh
from support.scratch import SCHEMA, open_scratch


async def test_a_password_that_is_refused_is_unavailable(scratch_mesh: TestMesh) -> None:
    url = scratch_mesh.database_url(SCHEMA).replace(scratch_mesh.secrets.passwords[f"{SCHEMA}_login_a"], "wrong")
    async with open_scratch(scratch_mesh, "scratch", database_url=url) as database:
        with pytest.raises(Unavailable):
            await use(database)


async def use(database: Database) -> None:
    async with database.as_worker():
        pass
