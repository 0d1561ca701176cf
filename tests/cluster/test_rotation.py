"""Rotation of secrets under load, with exactly the steps of docs/operations/secrets.md."""

from pathlib import Path
from typing import Final

import pytest
from support.doc_blocks import block

from cluster.processes import run
from cluster.release import LEASE_TTL_S, RELEASE, Release
from cluster.report import Figures
from cluster.storm import storm
from cluster.verdict import keeps_promises

_PAGE: Final = Path(__file__).parents[2] / "docs/operations/secrets.md"


@pytest.mark.parametrize("what", ["rotate-database-password", "rotate-signing-key"])
async def test_rotation_by_the_documented_steps_fails_no_request(mesh: Release, figures: Figures, what: str) -> None:
    script = f'NAMESPACE="{mesh.kubectl.namespace}"\nRELEASE="{RELEASE}"\n{block(_PAGE, what)}'

    async with storm(await mesh.url(), await mesh.marks(), users=5, streams=20, lease_ttl_s=LEASE_TTL_S) as one:
        await run("bash", "-euo", "pipefail", stdin=script, timeout_s=600)
        await mesh.settled()

    keeps_promises(figures, one, what)
    assert not one.failed
