"""Some schedules of faults in every test run; `make chaos N=200` runs as many as wanted."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chaos.__main__ import run_campaign
from chaos.cluster import Cluster, open_cluster

SCHEDULES = 15
SEED = 1


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with open_cluster(tmp_path / "mesh") as opened:
        yield opened


@pytest.mark.timeout(400)
async def test_no_schedule_of_faults_breaks_a_promise(cluster: Cluster, tmp_path: Path) -> None:
    campaign = await run_campaign(cluster, count=SCHEDULES, seed=SEED, histories=tmp_path / "histories")

    assert campaign.schedules == SCHEDULES
    assert campaign.violations == 0, campaign.verdict()
