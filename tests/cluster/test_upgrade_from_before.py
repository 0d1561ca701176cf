"""The upgrade from an earlier release, under load: its replicas and the new ones work side by side for a while."""

from dataclasses import replace

import pytest

from cluster.helm import CHART
from cluster.images import load_images
from cluster.release import LEASE_TTL_S, open_release
from cluster.report import Figures
from cluster.settings import ClusterSettings
from cluster.storm import storm
from cluster.verdict import keeps_promises


async def test_upgrade_from_an_earlier_release_loses_nothing_and_fails_no_request(
    loaded: ClusterSettings, figures: Figures
) -> None:
    if not (loaded.before_tag and loaded.before_chart):
        pytest.skip("BEFORE_TAG and BEFORE_CHART name no earlier release")
    await load_images(loaded, loaded.before_tag, with_stand_ins=False)
    before = {"image": {"tag": loaded.before_tag}}

    async with open_release(loaded, "mesh-before-test", before, chart=loaded.before_chart) as mesh:
        now = replace(mesh, helm=replace(mesh.helm, chart=CHART))
        streams = loaded.upgrade_streams
        async with storm(
            await mesh.url(), await mesh.marks(), users=10, streams=streams, lease_ttl_s=LEASE_TTL_S
        ) as one:
            await now.upgrade({"image": {"tag": loaded.image_tag}})
            await now.settled()

        keeps_promises(figures, one, "upgrade from the release before")
        assert not one.failed
