"""The model simulator that tests of single services share."""

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
    """Without rules and with an empty log, before and after."""
    async with SimulatorAdmin(simulator_url) as admin:
        await admin.reset()
        yield admin
        await admin.reset()
