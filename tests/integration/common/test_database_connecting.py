"""Connecting: asyncpg's own errors, which SQLAlchemy does not wrap, and URLs with libpq's parameters."""

import pytest
from mesh_common.database.postgres import Database, Driver, open_database
from mesh_common.errors import Unavailable
from sqlalchemy import text
from support.mesh import TestMesh
from support.scratch import SCHEMA, open_scratch, settings_for


async def test_a_password_that_is_refused_is_unavailable(scratch_mesh: TestMesh) -> None:
    url = scratch_mesh.database_url(SCHEMA).replace(scratch_mesh.secrets.passwords[f"{SCHEMA}_login_a"], "wrong")
    async with open_scratch(scratch_mesh, "scratch", database_url=url) as database:
        with pytest.raises(Unavailable):
            await use(database)


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_parameters_of_the_url_mean_the_same_to_both_drivers(scratch_mesh: TestMesh, driver: Driver) -> None:
    url = scratch_mesh.database_url(SCHEMA).replace("/mesh", "/scratch")
    settings = settings_for(scratch_mesh, "scratch", database_url=f"{url}?sslmode=disable&application_name=told")

    async with open_database(settings, schema=SCHEMA, driver=driver) as database, database.as_worker() as connection:
        name = (await connection.execute(text("SHOW application_name"))).scalar_one()

    assert name == "told"


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_server_without_tls_is_not_spoken_to_where_tls_is_demanded(
    scratch_mesh: TestMesh, driver: Driver
) -> None:
    url = scratch_mesh.database_url(SCHEMA).replace("/mesh", "/scratch")
    settings = settings_for(scratch_mesh, "scratch", database_url=f"{url}?sslmode=require")

    async with open_database(settings, schema=SCHEMA, driver=driver) as database:
        with pytest.raises(Unavailable):
            await use(database)


async def use(database: Database) -> None:
    async with database.as_worker():
        pass
