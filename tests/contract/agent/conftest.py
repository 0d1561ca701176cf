"""One agent service on the real PostgreSQL, with the model simulator."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from fakes.agent.neighbours import FakeEntitlements, FakeReceivers
from mesh_agent.bootstrap import MIGRATIONS
from mesh_common.database.postgres import Database
from mesh_common.database.sqlalchemy_engine import open_database
from simulator.server import open_simulator
from simulator.settings import SimulatorSettings
from support.agent import AgentUnderTest, agent_settings, running_agent
from support.mesh import TestMesh


@pytest.fixture(scope="module")
async def agent(test_mesh: TestMesh) -> AsyncIterator[AgentUnderTest]:
    await asyncio.to_thread(test_mesh.migrate, "agent", MIGRATIONS)
    receivers = FakeReceivers()
    async with open_simulator(SimulatorSettings(port=0)) as url:
        settings = agent_settings(test_mesh, f"{url}/v1")
        fakes = {"entitlements": FakeEntitlements(), "usage": receivers, "memories": receivers, "judge": receivers}
        async with running_agent(test_mesh, settings, **fakes) as under_test:
            yield under_test


@pytest.fixture(scope="module")
async def agent_database(agent: AgentUnderTest) -> AsyncIterator[Database]:
    async with open_database(agent.settings, schema="agent") as database:
        yield database
