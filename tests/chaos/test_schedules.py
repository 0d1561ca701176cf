"""Some schedules of faults in every test run; `make chaos N=200` runs as many as wanted."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chaos.campaign import run_campaign, say
from chaos.cluster import Cluster, open_cluster

SCHEDULES = 15
SEED = 1
# Five took 61 s beside other work on two cores, so 180 s would not hold; the verdict says how long it was.
AT_MOST_S = 300.0


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with open_cluster(tmp_path / "mesh") as opened:
        yield opened


@pytest.mark.timeout(400)
async def test_no_schedule_of_faults_breaks_a_promise(cluster: Cluster, tmp_path: Path) -> None:
    campaign = await run_campaign(cluster, count=SCHEDULES, seed=SEED, histories=tmp_path / "histories")
    say(campaign.verdict())

    assert campaign.has_passed, campaign.verdict()
    assert campaign.schedules == SCHEDULES
    assert campaign.took_s < AT_MOST_S, campaign.verdict()
