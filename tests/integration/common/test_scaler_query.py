"""How KEDA counts runs: with the query in the chart's values and the login of AGENT_SCALER_DATABASE_URL."""

import asyncio
from importlib import import_module
from pathlib import Path

import asyncpg
import psycopg
import pytest
from mesh_admin.kubernetes_secrets import Place, kubernetes_secrets
from mesh_agent.bootstrap import MIGRATIONS
from mesh_common.database.migrate import migrate
from mesh_common.ids import new_id
from mesh_dev.postgres import EmbeddedPostgres
from support.mesh import TestMesh
from support.scratch import bootstrapped

VALUES = Path(__file__).parents[3] / "deploy" / "helm" / "mesh" / "values.yaml"
DATABASE = "scaler"


@pytest.fixture(scope="module")
def query() -> str:
    # PyYAML has no type stubs here; this use does not need them.
    return str(import_module("yaml").safe_load(VALUES.read_text())["keda"]["agent"]["query"])


@pytest.fixture(scope="module")
async def scaler_url(postgres: EmbeddedPostgres, test_mesh: TestMesh) -> str:
    """The URL as in the Secret, of a database with one pending run, one running, and one of each ended status."""
    mesh = await bootstrapped(postgres, test_mesh.secrets, test_mesh.jwks_file, DATABASE)
    owner_url = mesh.database_url("agent", "owner").removesuffix("/mesh") + f"/{DATABASE}"
    await asyncio.to_thread(migrate, owner_url, schema="agent", migrations=MIGRATIONS)
    connection = await asyncpg.connect(owner_url)
    for status in ("pending", "running", "succeeded", "failed", "cancelled"):
        user_id, thread_id = new_id(), new_id()
        await connection.execute("INSERT INTO agent.threads (id, user_id) VALUES ($1, $2)", thread_id, user_id)
        await connection.execute(
            "INSERT INTO agent.runs (id, user_id, thread_id, status) VALUES ($1, $2, $3, $4)",
            new_id(),
            user_id,
            thread_id,
            status,
        )
    await connection.close()
    place = Place(database=f"{mesh.database}/{DATABASE}", redis="cache:6379")
    return kubernetes_secrets(test_mesh.secrets, place)["mesh-agent"]["AGENT_SCALER_DATABASE_URL"]


async def test_login_of_the_scaler_counts_the_runs_of_all_users(scaler_url: str, query: str) -> None:
    connection = await asyncpg.connect(scaler_url)
    try:
        counted = await connection.fetchval(query)
    finally:
        await connection.close()

    assert counted == 2


async def test_libpq_reads_the_url_alike(scaler_url: str, query: str) -> None:
    async with await psycopg.AsyncConnection.connect(scaler_url) as connection:
        counted = await (await connection.execute(query.encode())).fetchone()

    assert counted == (2,)


async def test_login_of_the_scaler_may_not_change_the_schema(scaler_url: str) -> None:
    connection = await asyncpg.connect(scaler_url)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("DROP TABLE agent.runs")
    finally:
        await connection.close()


async def test_without_the_role_it_counts_nothing(scaler_url: str, query: str) -> None:
    connection = await asyncpg.connect(scaler_url.partition("?")[0])
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetchval(query)
    finally:
        await connection.close()
