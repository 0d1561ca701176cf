"""A release of the mesh in a namespace of its own, with the services around it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
from chaos.marks import tools_setting
from mesh_common.grpc.edges import SERVICES, ServiceName
from mesh_dev.models import choose_models
from mesh_dev.ports import PortPlan
from mesh_dev.settings import DevSettings
from mesh_dev.wait import LOOPBACK

from cluster.helm import CHART, Helm
from cluster.kubectl import Kubectl, Object, eventually, name_of
from cluster.marks import MarkClient
from cluster.settings import ClusterSettings
from cluster.surroundings import MARKS_PORT, MARKS_URL, SIMULATOR_PORT, SIMULATOR_URL, apply_surroundings

RELEASE: Final = "mesh"
# Short, so that a rollout fits into a test. Keeps the order of the chart's defaults: age < preStop, drain.
_MAX_CONNECTION_AGE_S: Final = 5
_PRE_STOP_S: Final = 10
_DRAIN_S: Final = 10
LEASE_TTL_S: Final = 6.0
_UNLIMITED: Final = 1_000_000
# During a rollout, the pods of two releases must fit on two nodes of two cores. On a busy node, pods share the CPU in
# proportion to these requests, so all are two fifths of the chart's.
_CPU_REQUESTS: Final[Mapping[ServiceName, str]] = {
    "gateway": "50m",
    "auth": "100m",
    "agent": "200m",
    "memory": "100m",
    "eval": "40m",
}

type Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Release:
    kubectl: Kubectl
    helm: Helm
    settings: ClusterSettings
    values: Values
    shown: dict[str, str] = field(default_factory=dict)

    async def url(self) -> str:
        """The URL for clients: the address of the release's Gateway."""
        found = await self.kubectl.get("gateway.gateway.networking.k8s.io", RELEASE)
        return f"http://{found['status']['addresses'][0]['value']}"

    async def marks(self) -> MarkClient:
        service = await self.kubectl.get("service", "marks")
        address = service["spec"]["clusterIP"]
        return MarkClient(f"http://{address}:{MARKS_PORT}")

    async def upgrade(self, changes: Values, *more: str, timeout_s: float = 300.0) -> None:
        await self.helm.upgrade(merged(self.values, changes), *more, timeout_s=timeout_s)

    async def settled(self) -> None:
        """Waits until no pod is terminating and all pods are ready."""
        for service in SERVICES:
            await self.kubectl.rolled_out(f"deployment/{RELEASE}-{service}")
        await eventually("old pods have ended", self._no_pod_is_ending, within_s=120)

    async def _no_pod_is_ending(self) -> bool:
        pods = await self.kubectl.find("pods", "app.kubernetes.io/name=mesh")
        return not [pod for pod in pods if "deletionTimestamp" in pod["metadata"]]

    async def ready(self, service: ServiceName, count: int, within_s: float = 120.0) -> list[Object]:
        """The pods of a service, once exactly `count` are ready."""

        async def poll() -> list[Object] | None:
            pods = await self.kubectl.ready_pods(service)
            return pods if len(pods) == count else None

        return await eventually(f"{count} ready pods of {service}", poll, within_s=within_s)

    async def pod(self, service: ServiceName) -> str:
        return name_of((await self.kubectl.ready_pods(service))[0])


@asynccontextmanager
async def open_release(
    settings: ClusterSettings,
    namespace: str,
    changes: Values | None = None,
    *,
    manifests: str | None = None,
    chart: Path = CHART,
    timeout_s: float = 300.0,
) -> AsyncIterator[Release]:
    """Applies `manifests`, installs the release and waits until it is ready. Deletes the namespace at the end."""
    kubectl = Kubectl(namespace)
    helm = Helm(RELEASE, namespace, chart)
    release = Release(kubectl, helm, settings, merged(base_values(settings), changes or {}))
    try:
        await apply_surroundings(kubectl, settings)
        if manifests:
            await kubectl.apply(manifests)
        if not (settings.keep_namespaces and await release.helm.is_there()):
            await release.helm.install(release.values, timeout_s=timeout_s)
        yield release
    finally:
        if not settings.keep_namespaces:
            await kubectl.delete_namespace()


def base_values(settings: ClusterSettings) -> Values:
    services: dict[str, Any] = {service: _service(service) for service in SERVICES}
    services["gateway"]["env"] |= {
        "GATEWAY_LOGIN_LIMIT_PER_MINUTE": _UNLIMITED,
        "GATEWAY_CHAT_LIMIT_PER_MINUTE": _UNLIMITED,
        # The tests choose trace ids. Their requests come from the cluster's own networks.
        "GATEWAY_TRUSTED_PROXIES": [
            "10.0.0.0/8",
            "127.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "fc00::/7",
            "::1/128",
        ],
        "GATEWAY_MEMORY_LIMIT_PER_MINUTE": _UNLIMITED,
        "GATEWAY_LIST_LIMIT_PER_MINUTE": _UNLIMITED,
        "GATEWAY_WRITE_LIMIT_PER_MINUTE": _UNLIMITED,
    }
    services["agent"]["env"]["AGENT_HTTP_TOOLS"] = orjson.loads(tools_setting(MARKS_URL))
    services["agent"]["networkPolicy"] = {"extraEgress": [_rule("marks", MARKS_PORT)]}
    return {
        "image": {"registry": settings.image_registry, "tag": settings.image_tag, "pullPolicy": "IfNotPresent"},
        "services": services,
        "database": {"host": "postgres"},
        "redis": {"host": "valkey"},
        "secrets": {"create": True},
        "grpc": {"maxConnectionAgeSeconds": _MAX_CONNECTION_AGE_S},
        "shareProcessNamespace": True,
        "telemetry": {"otlpEndpoint": "http://otel-collector:4317", "sampleRatio": 0.01},
        "networkPolicy": _policies(settings),
        "httpRoute": {"enabled": True, "gateway": {"create": True, "className": settings.gateway_class}},
    }


def _policies(settings: ClusterSettings) -> Values:
    """The narrowest possible NetworkPolicies: every peer is named."""
    proxies = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": settings.gateway_namespace}}}
    return {
        "ingressFrom": [proxies],
        "monitoringFrom": [_peer("prometheus")],
        "database": {"to": [_peer("postgres")]},
        "redis": {"to": [_peer("valkey")]},
        "otlp": {"to": [_peer("otel-collector")]},
        "provider": {"public": False, "egress": [_rule("simulator", SIMULATOR_PORT)]},
    }


def _rule(part: str, port: int) -> Values:
    return {"to": [_peer(part)], "ports": [{"port": port, "protocol": "TCP"}]}


def _peer(part: str) -> Values:
    return {"podSelector": {"matchLabels": {"app.kubernetes.io/name": part}}}


def _service(service: ServiceName) -> dict[str, Any]:
    models = choose_models("simulator", PortPlan(0), DevSettings())
    environments = {
        "agent": models.agent_environment,
        "memory": models.memory_environment,
        "eval": models.eval_environment,
    }
    env = environments[service]() if service in environments else {}
    registry = {"models": orjson.loads(env.pop("AGENT_MODELS"))} if service == "agent" else {}
    local = f"http://{LOOPBACK}:{PortPlan(0).model}"
    return registry | {
        "replicas": 2,
        "autoscaling": {"enabled": False},
        "resources": {"requests": {"cpu": _CPU_REQUESTS[service]}},
        "preStopSeconds": _PRE_STOP_S,
        "drainSeconds": _DRAIN_S,
        "env": {name: value.replace(local, SIMULATOR_URL) for name, value in env.items() if not name.endswith("_KEY")},
    }


def merged(values: Values, changes: Values) -> Values:
    """`values` with `changes`. Merges maps by key and replaces everything else."""
    result = dict(values)
    for key, value in changes.items():
        before = result.get(key)
        result[key] = merged(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return result
