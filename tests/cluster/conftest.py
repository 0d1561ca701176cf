"""One release for most tests, which run in the order in which a platform team operates a release."""

from collections.abc import AsyncIterator
from typing import Final

import pytest

from cluster.images import load_images
from cluster.release import Release, open_release
from cluster.report import Figures
from cluster.settings import ClusterSettings

# Later tests change what earlier tests check.
_STORY: Final = (
    "test_install",
    "test_route",
    "test_trace",
    "test_policies",
    "test_usage",
    "test_upgrade",
    "test_upgrade_from_before",
    "test_faults",
    "test_nodes",
    "test_rotation",
    "test_scaling",
    "test_uninstall",
    "test_tls",
    "test_keda",
)
# Installation, rollouts and load share the cores of one machine.
_TIMEOUT_S: Final = 900
_FIGURES: Final = pytest.StashKey[Figures]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_FIGURES] = Figures()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if lines := config.stash[_FIGURES].lines:
        terminalreporter.section("figures")
        for line in lines:
            terminalreporter.write_line(line)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mine = [item for item in items if "cluster" in item.path.parts[:-1] and item.path.stem in _STORY]
    for item in mine:
        item.add_marker(pytest.mark.timeout(_TIMEOUT_S))
    if len(mine) == len(items):
        items.sort(key=lambda item: _STORY.index(item.path.stem))


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> Figures:
    return pytestconfig.stash[_FIGURES]


@pytest.fixture(scope="session")
def settings() -> ClusterSettings:
    found = ClusterSettings()
    if found.kubeconfig is None:
        pytest.skip("KUBECONFIG names no cluster")
    return found


@pytest.fixture(scope="session")
async def loaded(settings: ClusterSettings) -> ClusterSettings:
    """The settings, once the nodes have the images."""
    await load_images(settings, settings.image_tag)
    return settings


@pytest.fixture(scope="session")
async def mesh(loaded: ClusterSettings) -> AsyncIterator[Release]:
    async with open_release(loaded, "mesh-test") as release:
        yield release
