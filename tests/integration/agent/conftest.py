"""The agent service as it runs, on the real PostgreSQL, with the model simulator."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from fakes.agent.neighbours import FakeEntitlements, FakeReceivers
from mesh_agent.store.checkpoint_database import CheckpointDatabase, open_checkpoint_database
from mesh_common.database.pool import Pool
from mesh_common.database.postgres import Database
from mesh_common.database.sqlalchemy_engine import open_database
from mesh_dev.postgres import EmbeddedPostgres
from sqlalchemy import text
from support.agent import AgentUnderTest, agent_settings, owner_connection, running_agent
from support.coded_graphs import Opening, graph_agent
from support.mesh import TestMesh
from support.net import free_port
from support.template import UNSAFE, copied
from support.tool_server import ToolServer, running_tool_server


@pytest.fixture(scope="session")
def model_url(simulator_url: str) -> str:
    """The simulator's OpenAI-compatible API."""
    return f"{simulator_url}/v1"


@pytest.fixture(scope="session")
def migrated_mesh(test_mesh: TestMesh) -> TestMesh:
    return test_mesh


@pytest.fixture(scope="session")
async def second_mesh(
    test_mesh: TestMesh, mesh_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[TestMesh]:
    folder = await copied(mesh_template, tmp_path_factory.mktemp("second-postgres"))
    server = EmbeddedPostgres(folder, free_port(), settings=UNSAFE)
    await server.start()
    address = server.url_of("mesh").rpartition("@")[2].partition("/")[0]
    yield TestMesh(test_mesh.secrets, test_mesh.jwks_file, address)
    await server.stop()


@pytest.fixture
async def own_mesh(second_mesh: TestMesh) -> TestMesh:
    """An empty database without the shared agent, which would claim the runs that a test leaves pending."""
    async with owner_connection(second_mesh) as connection:
        await connection.execute(text("TRUNCATE agent.threads, agent.outbox, agent.plans CASCADE"))
    return second_mesh


def quiet_neighbours() -> dict[str, object]:
    """Neighbours that accept every call and return nothing."""
    receivers = FakeReceivers()
    return {
        "entitlements": FakeEntitlements(),
        "usage": receivers,
        "memories": receivers,
        "judge": receivers,
    }


@pytest.fixture(scope="session")
async def agent(migrated_mesh: TestMesh, model_url: str) -> AsyncIterator[AgentUnderTest]:
    """An agent shared by all tests that need no settings of their own. Each test has its own users."""
    settings = agent_settings(migrated_mesh, model_url)
    async with running_agent(migrated_mesh, settings, **quiet_neighbours()) as under_test:
        yield under_test


@pytest.fixture
async def fresh_agent(migrated_mesh: TestMesh, model_url: str) -> AsyncIterator[AgentUnderTest]:
    """An agent with fresh circuit breakers."""
    async with running_agent(
        migrated_mesh, agent_settings(migrated_mesh, model_url), **quiet_neighbours()
    ) as under_test:
        yield under_test


@pytest.fixture(scope="session")
async def agent_database(agent: AgentUnderTest) -> AsyncIterator[Database]:
    """The agent's database, for state that no RPC returns."""
    async with open_database(agent.settings, schema="agent") as database:
        yield database


@pytest.fixture(scope="session")
async def agent_checkpoints(agent: AgentUnderTest) -> AsyncIterator[CheckpointDatabase]:
    """The same database, opened as the agent opens it for checkpoints."""
    async with open_checkpoint_database(agent.settings, schema="agent", pool=Pool("checkpoints", size=2)) as database:
        yield database


@pytest.fixture
async def own_checkpoints(own_mesh: TestMesh, model_url: str) -> AsyncIterator[CheckpointDatabase]:
    """The same database, opened as the agent opens it for checkpoints."""
    settings = agent_settings(own_mesh, model_url)
    async with open_checkpoint_database(settings, schema="agent", pool=Pool("checkpoints", size=2)) as database:
        yield database


@pytest.fixture
async def own_database(own_mesh: TestMesh, model_url: str) -> AsyncIterator[Database]:
    """The database of `own_mesh`, for operations that no RPC offers."""
    async with open_database(agent_settings(own_mesh, model_url), schema="agent") as database:
        yield database


@pytest.fixture
async def tool() -> AsyncIterator[ToolServer]:
    async with running_tool_server() as server:
        yield server


@pytest.fixture
def opening(
    own_mesh: TestMesh, model_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tool: ToolServer
) -> Opening:
    def opened(
        name: str, *, effect: str = "once", approval: str = "never", **options: Any
    ) -> AbstractAsyncContextManager[AgentUnderTest]:
        tools = tool.as_setting(effect, approval=approval)
        return graph_agent(own_mesh, model_url, monkeypatch, tmp_path, name, AGENT_HTTP_TOOLS=tools, **options)

    return opened
