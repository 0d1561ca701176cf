"""The model simulator, shared by the tests of single services."""

from collections.abc import AsyncIterator

import pytest
from simulator.client import SimulatorAdmin
from simulator.server import open_simulator
from simulator.settings import SimulatorSettings


@pytest.fixture(scope="session")
async def simulator_url() -> AsyncIterator[str]:
    async with open_simulator(SimulatorSettings(port=0)) as url:
        yield url


@pytest.fixture
async def simulator(simulator_url: str) -> AsyncIterator[SimulatorAdmin]:
    """The simulator's admin API; rules and log are cleared before and after the test."""
    async with SimulatorAdmin(simulator_url) as admin:
        await admin.reset()
        yield admin
        await admin.reset()
