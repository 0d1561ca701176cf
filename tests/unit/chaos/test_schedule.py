"""What hangs is cut off and told; real schedules are in tests/chaos."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from chaos.campaign import run_campaign
from chaos.cluster import Cluster
from chaos.marks import MarkServer
from chaos.schedule import run_schedule


async def test_a_schedule_that_hangs_fails_and_is_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chaos.campaign.run_schedule", lambda cluster, seed: run_schedule(cluster, seed, 0.2))
    with _silent() as url:
        cluster = Cluster(cast("Any", None), {}, MarkServer(), (url,))

        campaign = await run_campaign(cluster, count=3, seed=7, histories=tmp_path)

    assert not campaign.has_passed
    assert campaign.schedules == 1
    assert campaign.failed_seeds == [7]


async def test_a_schedule_that_hangs_says_so() -> None:
    with _silent() as url:
        cluster = Cluster(cast("Any", None), {}, MarkServer(), (url,))

        result = await run_schedule(cluster, 7, give_up_s=1.0)

    assert [str(violation) for violation in result.violations] == ["schedule: seed 7: did not finish in 1 s"]
    assert not result.is_finished


@contextmanager
def _silent() -> Iterator[str]:
    """The URL of a server that answers nobody: the system takes connections for it, and it looks at none."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
