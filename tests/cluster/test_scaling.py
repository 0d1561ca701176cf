"""HorizontalPodAutoscalers scale out under load, new replicas get calls, and scaling in loses no run."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import pytest
from chaos.orders import Pace
from mesh_common.grpc.edges import ServiceName

from cluster.kubectl import eventually
from cluster.metrics import rpcs_by_pod
from cluster.release import LEASE_TTL_S, Release
from cluster.report import Figures
from cluster.storm import storm
from cluster.verdict import keeps_promises

_BUSY: Final = Pace(words=range(40, 80), ttft_ms=(0,), itl_ms=(20,))
_CALM: Final = Pace(words=range(30, 60), ttft_ms=(0, 200), itl_ms=(500,))
# CPU requests. At 70 % of them, a gateway replica has about 10 streams, an agent replica 5.
_SCALED: Final[Mapping[ServiceName, str]] = {"gateway": "50m", "agent": "100m"}
_MOST: Final = 3
# The fraction by which each new replica's share of the calls may differ from an even share.
_UNEVENNESS: Final = 0.3


def _autoscaling() -> Mapping[str, Any]:
    quick = {"scaleDown": {"stabilizationWindowSeconds": 15, "policies": [_policy(1, 10)]}}
    scaling = {
        "enabled": True,
        "minReplicas": 1,
        "maxReplicas": _MOST,
        "targetCPUUtilizationPercentage": 70,
        "behavior": quick,
    }
    return {
        "services": {
            name: {"autoscaling": scaling, "resources": {"requests": {"cpu": cpu}}} for name, cpu in _SCALED.items()
        }
    }


def _policy(pods: int, period_s: int) -> Mapping[str, Any]:
    return {"type": "Pods", "value": pods, "periodSeconds": period_s}


@pytest.fixture
async def scaled_mesh(mesh: Release) -> AsyncIterator[Release]:
    await mesh.upgrade(_autoscaling())
    yield mesh
    await mesh.upgrade({})
    await mesh.settled()


async def test_load_scales_out_evenly_and_calm_scales_in_without_loss(scaled_mesh: Release, figures: Figures) -> None:
    mesh = scaled_mesh
    for service in _SCALED:
        await mesh.ready(service, 1, within_s=240)

    async with storm(
        await mesh.url(), await mesh.marks(), users=10, streams=40, lease_ttl_s=LEASE_TTL_S, pace=_BUSY
    ) as busy:
        for service in _SCALED:
            await mesh.ready(service, _MOST, within_s=240)
        before = await rpcs_by_pod(mesh, "agent", "server", "AgentService/StartRun")
        shares = await eventually("enough calls to compare", lambda: _shares(mesh, before), within_s=120)
    async with storm(
        await mesh.url(), await mesh.marks(), users=2, streams=4, lease_ttl_s=LEASE_TTL_S, pace=_CALM
    ) as calm:
        for service in _SCALED:
            await mesh.ready(service, 1, within_s=300)

    figures.say(f"StartRun by agent after scaling out: {sorted(shares)}")
    keeps_promises(figures, busy, "scaled out")
    keeps_promises(figures, calm, "scaled in")
    even = sum(shares) / len(shares)
    assert len(shares) == _MOST
    assert all(abs(share - even) <= _UNEVENNESS * even for share in shares)


async def _shares(mesh: Release, before: Mapping[str, float]) -> list[float] | None:
    """The calls that each agent served since `before`, once there are enough to compare shares."""
    now = await rpcs_by_pod(mesh, "agent", "server", "AgentService/StartRun")
    counts = [count - before.get(pod, 0.0) for pod, count in now.items()]
    return counts if sum(counts) >= 100 * _MOST else None
