"""The resource requests of the chart's defaults, compared with the usage of the services."""

from typing import Any, Final

import yaml
from chaos.orders import Pace
from mesh_common.grpc.edges import SERVICES

from cluster.helm import CHART
from cluster.kubectl import eventually
from cluster.release import LEASE_TTL_S, Release
from cluster.report import Figures
from cluster.storm import storm
from cluster.usage import quantity, usage_for
from cluster.verdict import keeps_promises

# 50 tokens per second in each stream, 20 streams per replica.
_FULL: Final = Pace(words=range(100, 101), ttft_ms=(0,), itl_ms=(20,))
_STREAMS: Final = 40


async def test_replicas_use_what_the_chart_asks_for(mesh: Release, figures: Figures) -> None:
    await eventually("metrics of pods", lambda: usage_for(mesh.kubectl, 1), within_s=60)
    idle = await usage_for(mesh.kubectl, 30)
    async with storm(
        await mesh.url(), await mesh.marks(), users=10, streams=_STREAMS, lease_ttl_s=LEASE_TTL_S, pace=_FULL
    ) as one:
        busy = await usage_for(mesh.kubectl, 90)

    for service in SERVICES:
        figures.say(f"usage of a {service}: idle {idle[service]}; {_STREAMS // 2} streams a replica {busy[service]}")
    keeps_promises(figures, one, "usage")
    for service in SERVICES:
        chart = _resources(service)
        assert max(idle[service].cpu) < quantity(chart["requests"]["cpu"])
        assert max(busy[service].memory) < quantity(chart["requests"]["memory"])


def _resources(service: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    resources: dict[str, Any] = values["services"][service]["resources"]
    return resources
