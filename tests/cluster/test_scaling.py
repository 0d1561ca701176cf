"""HorizontalPodAutoscalers scale out under load, new replicas get calls, and scaling in loses no run."""

import time
from collections.abc import AsyncIterator, Mapping
from functools import partial
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
_CALLS_TO_COMPARE: Final = 100 * _MOST
# From the readiness of the last replica: DNS, and the age at which clients look up the name again.
_SHARES_WITHIN_S: Final = 30.0


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
        took_s, shares = await _until_even(mesh)
    async with storm(
        await mesh.url(), await mesh.marks(), users=2, streams=4, lease_ttl_s=LEASE_TTL_S, pace=_CALM
    ) as calm:
        for service in _SCALED:
            await mesh.ready(service, 1, within_s=300)

    figures.say(f"StartRun by agent, {took_s:.0f} s after scaling out: {sorted(shares)}")
    keeps_promises(figures, busy, "scaled out")
    keeps_promises(figures, calm, "scaled in")
    assert took_s <= _SHARES_WITHIN_S


async def _until_even(mesh: Release) -> tuple[float, list[float]]:
    """Counts calls in one window after the other, until every agent has its share of a window.

    Returns the seconds until that window began, and its counts.
    """
    started_s = time.monotonic()
    while True:
        begun_s = time.monotonic()
        before = await _starts(mesh)
        shares = await eventually("enough calls to compare", partial(_shares, mesh, before), within_s=120)
        even = sum(shares) / _MOST
        if len(shares) == _MOST and all(abs(share - even) <= _UNEVENNESS * even for share in shares):
            return begun_s - started_s, shares
        assert begun_s - started_s <= _SHARES_WITHIN_S, f"StartRun by agent after scaling out: {sorted(shares)}"


async def _starts(mesh: Release) -> Mapping[str, float]:
    return await rpcs_by_pod(mesh, "agent", "server", "AgentService/StartRun")


async def _shares(mesh: Release, before: Mapping[str, float]) -> list[float] | None:
    """The calls that each agent served since `before`, once there are enough to compare shares."""
    counts = [count - before.get(pod, 0.0) for pod, count in (await _starts(mesh)).items()]
    return counts if sum(counts) >= _CALLS_TO_COMPARE else None
