"""One stack for all tests that leave it intact, and one for tests that stop parts and restart them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mesh_dev.stack import Stack
from simulator.client import SimulatorAdmin
from support.api import User, new_user
from support.stack import open_stack


@pytest.fixture(scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory, mesh_template: Path) -> AsyncIterator[Stack]:
    async with open_stack(tmp_path_factory.mktemp("stack"), mesh_template, has_traces=True) as running:
        yield running


@pytest.fixture(scope="session")
async def fragile_stack(tmp_path_factory: pytest.TempPathFactory, mesh_template: Path) -> AsyncIterator[Stack]:
    """A stack for tests that kill or restart parts of it. Each test restarts what it stopped."""
    async with open_stack(tmp_path_factory.mktemp("fragile"), mesh_template) as running:
        yield running


@pytest.fixture
async def simulator(stack: Stack) -> AsyncIterator[SimulatorAdmin]:
    """The admin API of the shared stack's simulator. Rules are cleared after the test."""
    async with SimulatorAdmin(stack.model_url) as admin:
        yield admin
        await admin.clear_rules()


@pytest.fixture
async def user(stack: Stack) -> AsyncIterator[User]:
    async with new_user(stack.url) as registered:
        yield registered


@pytest.fixture
async def stranger(stack: Stack) -> AsyncIterator[User]:
    """Another user of the same mesh."""
    async with new_user(stack.url) as registered:
        yield registered
