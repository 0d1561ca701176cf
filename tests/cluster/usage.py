"""CPU and memory of the release's pods, from the cluster's metrics API."""

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

import orjson
from mesh_common.grpc.edges import SERVICES

from cluster.kubectl import Kubectl

# Metrics servers sample each pod every 10 to 60 s.
_SAMPLE_EVERY_S: Final = 5.0
_PARTS: Final = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0}
_BYTES: Final = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "": 1}


@dataclass(slots=True)
class ServiceUsage:
    """All samples of a service's pods, in cores and bytes."""

    cpu: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        cpu, memory = self.cpu, self.memory
        return (
            f"{median(cpu) * 1000:.0f}m, at most {max(cpu) * 1000:.0f}m; "
            f"{median(memory) / 2**20:.0f}Mi, at most {max(memory) / 2**20:.0f}Mi"
        )


async def usage_for(kubectl: Kubectl, seconds: float) -> dict[str, ServiceUsage]:
    """The usage of each service's pods during `seconds`. Raises ProgramError if the cluster has no metrics API."""
    usage: dict[str, ServiceUsage] = defaultdict(ServiceUsage)
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        await asyncio.sleep(_SAMPLE_EVERY_S)
        for pod in await _pods(kubectl):
            service = pod["metadata"]["labels"].get("app.kubernetes.io/component")
            if service in SERVICES:
                usage[service].cpu.append(sum(quantity(each["usage"]["cpu"]) for each in pod["containers"]))
                usage[service].memory.append(sum(quantity(each["usage"]["memory"]) for each in pod["containers"]))
    return usage


def quantity(text: str) -> float:
    """A Kubernetes quantity as a number: 250m is 0.25, 1Ki is 1024."""
    number = text.rstrip("KMGinum")
    suffix = text[len(number) :]
    return float(number) * (_PARTS | _BYTES)[suffix]


async def _pods(kubectl: Kubectl) -> list[dict[str, Any]]:
    path = f"/apis/metrics.k8s.io/v1beta1/namespaces/{kubectl.namespace}/pods"
    found: list[dict[str, Any]] = orjson.loads(await kubectl.run("get", "--raw", path))["items"]
    return found
