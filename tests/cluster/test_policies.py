"""Network connectivity: each edge of the design connects, and nothing else does."""

from collections.abc import AsyncIterator, Iterable
from typing import Final

import orjson
import pytest
from mesh_common.grpc.edges import ALLOWED_CALLERS, SERVICES

from cluster.kubectl import Kubectl, eventually, name_of
from cluster.release import Release

pytestmark = pytest.mark.short

# Prints, as JSON, which of the given [name, address, port] accept a connection. A policy drops packets silently.
_PROBE: Final = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor

def connects(target):
    try:
        socket.create_connection((target[1], target[2]), timeout=2).close()
    except OSError:
        return None
    return target[0]

with ThreadPoolExecutor(40) as pool:
    print(json.dumps([name for name in pool.map(connects, json.loads(sys.argv[1])) if name]))
"""
_PARTS: Final = {"postgres": 5432, "valkey": 6379, "simulator": 8090, "otel-collector": 4317}
_USES: Final = {
    "gateway": {"valkey:6379", "otel-collector:4317"},
    "auth": {"postgres:5432", "otel-collector:4317"},
    "agent": {"postgres:5432", "otel-collector:4317", "simulator:8090"},
    "memory": {"postgres:5432", "otel-collector:4317", "simulator:8090"},
    "eval": {"postgres:5432", "otel-collector:4317", "simulator:8090"},
}


@pytest.fixture
async def stranger(mesh: Release) -> AsyncIterator[str]:
    """A pod in the namespace that does not belong to the release."""
    image = f"{mesh.settings.image_registry}/mesh-gateway:{mesh.settings.image_tag}"
    security = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    sleep = ["python", "-c", "import signal; signal.pause()"]
    container = {"name": "stranger", "image": image, "command": sleep, "securityContext": security}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stranger"}, "spec": spec}
    await mesh.kubectl.apply(orjson.dumps(pod).decode())
    await mesh.kubectl.run("wait", "--for=condition=Ready", "pod/stranger", "--timeout=60s", timeout_s=70)
    yield "stranger"
    await mesh.kubectl.run("delete", "pod", "stranger")


async def test_only_the_edges_of_the_design_connect(mesh: Release, stranger: str) -> None:
    targets = await _targets(mesh)
    sources: dict[str, str] = {service: await mesh.pod(service) for service in SERVICES}
    sources |= {name: await _pod_of(mesh.kubectl, name) for name in ("postgres", "valkey", "simulator")}
    sources["stranger"] = stranger

    async def reached() -> set[tuple[str, str]]:
        found: set[tuple[str, str]] = set()
        for source, pod in sources.items():
            said = await mesh.kubectl.python(pod, _PROBE, orjson.dumps(targets).decode())
            found |= {(source, target) for target in orjson.loads(said)}
        # Connections of a pod to itself bypass every policy, and each of these parts is a single pod.
        return found - {(name, f"{name}:{port}") for name, port in _PARTS.items()}

    # A policy takes effect shortly after a new pod has started.
    expected = _expected()
    await eventually("the stranger is shut out", lambda: _is_shut_out(mesh, stranger, targets), within_s=10)
    assert await reached() == expected


async def test_pods_of_other_namespaces_reach_nothing_but_what_the_ingress_may(mesh: Release, stranger: str) -> None:
    outside = mesh.kubectl.within(f"{mesh.kubectl.namespace}-outside")
    pod = await mesh.kubectl.get("pod", stranger)
    moved = {key: pod[key] for key in ("apiVersion", "kind")}
    moved["metadata"] = {"name": "outsider"}
    moved["spec"] = {key: pod["spec"][key] for key in ("containers", "automountServiceAccountToken")}
    for container in moved["spec"]["containers"]:
        container.pop("volumeMounts", None)
    try:
        await outside.run("create", "namespace", outside.namespace)
        await outside.apply(orjson.dumps(moved).decode())
        await outside.run("wait", "--for=condition=Ready", "pod/outsider", "--timeout=60s", timeout_s=70)
        said = await outside.python("outsider", _PROBE, orjson.dumps(await _targets(mesh)).decode())
    finally:
        await outside.delete_namespace()

    assert orjson.loads(said) == []


async def _is_shut_out(mesh: Release, stranger: str, targets: list[list[str | int]]) -> bool:
    said = await mesh.kubectl.python(stranger, _PROBE, orjson.dumps(targets).decode())
    return said.strip() == "[]"


async def _targets(mesh: Release) -> list[list[str | int]]:
    """Every port of every part, as `name:port`, address and port."""
    targets: list[list[str | int]] = []
    for service in SERVICES:
        # The last of its replicas, because the first one runs the probe.
        address = (await mesh.kubectl.ready_pods(service))[-1]["status"]["podIP"]
        port = 8000 if service == "gateway" else 50051
        targets += [[f"{service}:{each}", address, each] for each in (port, 9464)]
    for name, port in _PARTS.items():
        pod = await mesh.kubectl.get("pod", await _pod_of(mesh.kubectl, name))
        targets.append([f"{name}:{port}", pod["status"]["podIP"], port])
    return targets


def _expected() -> set[tuple[str, str]]:
    """The edges from the table of allowed calls, and those to the other parts that each service uses."""
    calls = {(caller, f"{_callee(rpc)}:50051") for rpc, callers in ALLOWED_CALLERS.items() for caller in callers}
    return calls | set(_pairs())


def _pairs() -> Iterable[tuple[str, str]]:
    return ((service, part) for service, parts in _USES.items() for part in parts)


def _callee(rpc: str) -> str:
    return rpc.split(".")[1]


async def _pod_of(kubectl: Kubectl, name: str) -> str:
    [pod, *_] = await kubectl.find("pods", f"app.kubernetes.io/name={name}")
    return name_of(pod)
