"""A few schedules of faults in every test run, more in `make nightly`; `make chaos N=200` runs any number."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chaos.campaign import run_campaign, say
from chaos.cluster import Cluster, open_cluster

# Five took 61 s with other load on two cores, so 12 s would be too short; the verdict shows the actual time.
AT_MOST_S_EACH = 20.0
FEW = 2
MANY = 60


@pytest.fixture
async def cluster(tmp_path: Path, mesh_template: Path) -> AsyncIterator[Cluster]:
    async with open_cluster(tmp_path / "mesh", template=mesh_template) as opened:
        yield opened


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(FEW, marks=pytest.mark.timeout(180)),
        pytest.param(MANY, marks=[pytest.mark.nightly, pytest.mark.timeout(AT_MOST_S_EACH * MANY + 100)]),
    ],
)
async def test_no_schedule_of_faults_breaks_a_promise(cluster: Cluster, tmp_path: Path, seed: int, count: int) -> None:
    campaign = await run_campaign(cluster, count=count, seed=seed, histories=tmp_path / "histories")
    say(campaign.verdict())

    assert campaign.has_passed, campaign.verdict()
    assert campaign.schedules == count
    assert campaign.took_s < AT_MOST_S_EACH * count, campaign.verdict()
