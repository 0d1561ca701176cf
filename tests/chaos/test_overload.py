"""Five minutes of overload on a slow database, every night."""

from pathlib import Path

import pytest

from chaos.figures import overload
from chaos.figures.report import Report

SECONDS = 300


@pytest.mark.nightly
@pytest.mark.timeout(SECONDS + 300)
async def test_overload_refuses_starts_and_costs_nobody_a_lease(tmp_path: Path, seed: int) -> None:
    report = Report("overload")

    await overload.measure(report, tmp_path / "mesh", SECONDS, seed)

    assert not report.failures
