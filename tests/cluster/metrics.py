"""Metrics of replicas, read directly from the pods."""

from typing import Final, Literal

from mesh_common.grpc.edges import ServiceName
from prometheus_client.parser import text_string_to_metric_families

from cluster.kubectl import name_of
from cluster.release import Release

_READ: Final = """
import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:9464/metrics", timeout=5).read().decode())
"""


async def rpcs_by_pod(
    release: Release, service: ServiceName, side: Literal["server", "client"], rpc: str
) -> dict[str, float]:
    """By ready pod, the number of ended calls of an RPC (named by its suffix) that it served, or made."""
    counts: dict[str, float] = {}
    for pod in await release.kubectl.ready_pods(service):
        text = await release.kubectl.python(name_of(pod), _READ)
        counts[name_of(pod)] = sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == f"mesh_rpc_{side}_duration_seconds_count" and sample.labels["rpc"].endswith(rpc)
        )
    return counts
