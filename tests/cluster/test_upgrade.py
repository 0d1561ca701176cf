"""Upgrades and rollbacks under load: nothing is lost or duplicated, and no request fails."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cluster.images import build_next
from cluster.processes import ProgramError
from cluster.release import LEASE_TTL_S, Release
from cluster.report import Figures
from cluster.storm import Storm, storm
from cluster.verdict import keeps_promises

NEXT, BROKEN = "next", "broken"


@pytest.fixture(scope="module")
async def next_images(mesh: Release) -> None:
    await build_next(mesh.settings, NEXT, "ALTER TABLE agent.runs ADD COLUMN IF NOT EXISTS colour text")


@pytest.mark.short
@pytest.mark.usefixtures("next_images")
async def test_upgrade_with_a_migration_loses_nothing_and_fails_no_request(mesh: Release, figures: Figures) -> None:
    async with _load(mesh, mesh.settings.upgrade_streams) as one:
        await mesh.upgrade({"image": {"tag": NEXT}})
        await mesh.settled()

    _is_clean(figures, one, "upgrade")


@pytest.mark.usefixtures("next_images")
async def test_rollback_from_a_newer_schema_and_upgrade_again_lose_nothing(mesh: Release, figures: Figures) -> None:
    async with _load(mesh, mesh.settings.upgrade_streams) as back:
        await mesh.helm.rollback(await mesh.helm.revision() - 1)
        await mesh.settled()
    async with _load(mesh, mesh.settings.upgrade_streams) as again:
        await mesh.upgrade({"image": {"tag": NEXT}})
        await mesh.settled()

    _is_clean(figures, back, "rollback")
    _is_clean(figures, again, "upgrade again")


@pytest.mark.usefixtures("next_images")
async def test_failed_migration_stops_the_upgrade_and_leaves_the_old_release_serving(
    mesh: Release, figures: Figures
) -> None:
    await build_next(mesh.settings, BROKEN, "SELECT 1 FROM agent.no_such_table", after=NEXT)

    async with _load(mesh, 10) as one:
        with pytest.raises(ProgramError):
            await mesh.upgrade({"image": {"tag": BROKEN}}, timeout_s=60)
        revision = await mesh.helm.revision()
        await mesh.helm.rollback(revision - 1)
        await mesh.settled()

    _is_clean(figures, one, "failed migration")


@asynccontextmanager
async def _load(mesh: Release, streams: int) -> AsyncIterator[Storm]:
    async with storm(await mesh.url(), await mesh.marks(), users=10, streams=streams, lease_ttl_s=LEASE_TTL_S) as one:
        yield one


def _is_clean(figures: Figures, one: Storm, what: str) -> None:
    keeps_promises(figures, one, what)
    assert not one.failed
