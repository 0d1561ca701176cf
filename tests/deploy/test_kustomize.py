"""The services around a release on a developer's cluster and in the cluster tests."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from support.kustomize import write_overlay

from deploy.checks import ports, resources, restricted, schemas, volumes
from deploy.go_yaml import load_all
from deploy.helm import render
from deploy.manifests import Object, Release, Workload, merged, name_of, parse
from deploy.netpol import Connection, Endpoint, Policies
from deploy.programs import ROOT, run

pytestmark = pytest.mark.deploy

BASE: Final = ROOT / "deploy/k8s"
TESTS: Final = ROOT / "tests/cluster/kustomize"
VALUES: Final = next(load_all((BASE / "values.yaml").read_text()))
PARTS: Final = {"postgres": 5432, "valkey": 6379, "simulator": 8090, "otel-collector": 4317, "prometheus": 9090}
# Here every service may reach the database, because each service's own policy decides that.
CALLERS: Final = {
    "postgres": {"gateway", "auth", "agent", "memory", "eval", "migrate"},
    "valkey": {"gateway"},
    "simulator": {"agent", "memory", "eval"},
    "otel-collector": {"gateway", "auth", "agent", "memory", "eval", "migrate"},
    "prometheus": set[str](),
}
CHECKS: Final = (
    ports.container_ports_are_unique,
    ports.services_lead_to_container_ports,
    resources.containers_have_resources,
    resources.quantities_parse,
    resources.requests_are_within_limits,
    restricted.pods_are_restricted,
    restricted.roots_are_read_only,
    schemas.objects_follow_their_schema,
    volumes.mount_paths_are_unique,
)
# The chart has no StatefulSet, so these checks support neither exec probes nor volume claims.
CHECKS_OF_DEPLOYMENTS: Final = (ports.probes_lead_to_container_ports, volumes.mounts_have_volumes)


@cache
def _built(folder: Path) -> Release:
    done = run("kubectl", "kustomize", str(folder))
    assert done.returncode == 0, done.stderr
    return Release(parse(done.stdout), {}, "", "")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("folder", [BASE, TESTS], ids=["base", "tests"])
def test_the_parts_pass(folder: Path, check: Callable[[Release], Iterator[str]]) -> None:
    assert list(check(_built(folder))) == []


@pytest.mark.parametrize("check", CHECKS_OF_DEPLOYMENTS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("folder", [BASE, TESTS], ids=["base", "tests"])
def test_the_deployments_pass(folder: Path, check: Callable[[Release], Iterator[str]]) -> None:
    deployments = replace(_built(folder), objects=tuple(_built(folder).of("Deployment", "Service")))

    assert list(check(deployments)) == []


def test_the_database_writes_into_its_claim_volumes_and_nowhere_else() -> None:
    [stateful_set] = _built(BASE).of("StatefulSet")
    spec = stateful_set["spec"]
    pod = spec["template"]["spec"]
    volumes_there = [*pod["volumes"], *(claim["metadata"] for claim in spec["volumeClaimTemplates"])]

    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}

    assert set(mounts) == {volume["name"] for volume in volumes_there}
    [data] = [entry["value"] for entry in pod["containers"][0]["env"] if entry["name"] == "PGDATA"]
    assert data.startswith(f"{mounts['data']}/")


def test_the_namespace_enforces_restricted_pods() -> None:
    [namespace] = _built(BASE).of("Namespace")

    assert name_of(namespace) == "mesh"
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_everything_else_is_in_the_namespace() -> None:
    others = [thing for thing in _built(BASE).objects if thing["kind"] != "Namespace"]

    assert {thing["metadata"]["namespace"] for thing in others} == {"mesh"}


def test_every_part_has_its_service_and_its_policy() -> None:
    release = _built(BASE)

    assert {name_of(service): service["spec"]["ports"][0]["port"] for service in release.of("Service")} == PARTS
    assert {name_of(policy) for policy in release.of("NetworkPolicy")} == set(PARTS)
    assert all(policy["spec"]["policyTypes"] == ["Ingress", "Egress"] for policy in release.of("NetworkPolicy"))


def test_images_are_pinned() -> None:
    images = {container["image"] for workload in _built(BASE).workloads for container in workload.containers()}

    for image in images:
        tag = image.rpartition("/")[2].partition(":")[2]
        assert tag == "dev" or tag[0].isdigit() or tag[0] == "v", image


@pytest.mark.parametrize("target", PARTS)
def test_parts_are_reached_by_their_callers_alone(target: str) -> None:
    policies = Policies(_built(BASE).of("NetworkPolicy"))
    sources = [*map(_mesh_pod, sorted(CALLERS["postgres"])), *map(_part, PARTS), _pod("stranger", {})]
    others = [source for source in sources if source.name != target]

    reached = {source.name for source in others if policies.let(Connection(source, _part(target), PARTS[target]))}

    assert reached == CALLERS[target]


@pytest.mark.parametrize("target", ["postgres", "prometheus"])
def test_keda_reaches_what_it_scales_by(target: str) -> None:
    policies = Policies(_built(BASE).of("NetworkPolicy"))
    operator = Endpoint("keda", "10.1.0.1", "keda", {"app": "keda-operator"})

    assert policies.let(Connection(operator, _part(target), PARTS[target]))


def test_prometheus_reaches_metrics_and_nothing_else() -> None:
    policies = Policies(_built(BASE).of("NetworkPolicy"))
    prometheus, agent, collector = _part("prometheus"), _mesh_pod("agent"), _part("otel-collector")

    assert policies.let(Connection(prometheus, agent, 9464))
    assert policies.let(Connection(prometheus, collector, 8888))
    assert policies.let(Connection(prometheus, collector, 8889))
    assert not policies.let(Connection(prometheus, agent, 50051))
    assert not policies.let(Connection(prometheus, _part("postgres"), 5432))


def test_prometheus_may_only_look_at_pods() -> None:
    release = _built(BASE)

    [role] = release.of("Role")
    assert role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]
    assert not release.of("ClusterRole", "ClusterRoleBinding")
    with_token = [each for each in release.workloads if each.spec.get("automountServiceAccountToken") is not False]
    assert [each.name for each in with_token] == ["prometheus"]


def test_scraped_ports_carry_the_name_that_prometheus_keeps() -> None:
    [collector] = [each for each in _built(BASE).workloads if each.name == "otel-collector"]

    ports_by_name = {port["name"]: port["containerPort"] for port in collector.containers()[0]["ports"]}
    assert {name: port for name, port in ports_by_name.items() if name.endswith("metrics")} == {
        "metrics": 8888,
        "span-metrics": 8889,
    }


@pytest.mark.parametrize("more", [None, "values-dev.yaml", "values-ha.yaml"])
def test_the_release_finds_the_parts(more: str | None) -> None:
    """With the values next to it, each service may connect to the parts that it needs, on both ends."""
    release = render(_values(more))
    policies = Policies([*release.of("NetworkPolicy"), *_built(BASE).of("NetworkPolicy")])
    services = [_endpoint(workload) for workload in release.deployments()]

    reached = {
        part: {pod.component for pod in services if policies.let(Connection(pod, _part(part), port))}
        for part, port in PARTS.items()
    }

    everyone = {"gateway", "auth", "agent", "memory", "eval"}
    assert reached == {
        "postgres": everyone - {"gateway"},
        "valkey": {"gateway"},
        "simulator": {"agent", "memory", "eval"},
        "otel-collector": everyone,
        "prometheus": set(),
    }


def test_the_parts_read_secrets_that_the_release_makes() -> None:
    wanted = {
        (ref["name"], ref["key"])
        for workload in _built(BASE).workloads
        for entry in workload.containers()[0].get("env", [])
        if (ref := entry.get("valueFrom", {}).get("secretKeyRef"))
    }

    assert wanted == {("mesh-database-admin", "POSTGRES_PASSWORD"), ("mesh-redis", "REDIS_PASSWORD")}


def test_the_tests_overlay_pulls_only_the_named_images(tmp_path: Path) -> None:
    named = {
        "localhost/mesh-postgres": "registry.example:5000/mesh-postgres:1.2",
        "localhost/mesh-valkey": "registry.example:5000/mesh-valkey:1.2",
        "localhost/mesh-simulator": "registry.example:5000/mesh-simulator:1.2",
        "docker.io/otel/opentelemetry-collector-contrib": "lab.local/otelcol:1",
        "docker.io/prom/prometheus": f"example/prometheus@sha256:{'0' * 64}",
    }

    write_overlay(tmp_path, TESTS, namespace="mesh-test", images=named, avoided_node="node2")

    release = _built(tmp_path)
    containers = [container for workload in release.workloads for container in workload.containers()]
    assert {container["image"] for container in containers} == set(named.values())
    assert {container["imagePullPolicy"] for container in containers} == {"IfNotPresent"}
    assert {_namespace_of(thing) for thing in release.objects} == {"mesh-test"}
    assert {_avoided(workload) for workload in release.workloads} == {"node2"}


def test_the_tests_overlay_adds_the_marks_server_and_whole_traces() -> None:
    release = _built(TESTS)

    assert {each.name for each in release.workloads} == {*PARTS, "marks"}
    [collector] = [each for each in release.workloads if each.name == "otel-collector"]
    assert collector.containers()[0]["args"] == [
        "--config=/etc/otelcol/config.yaml",
        "--config=/etc/otelcol/traces.yaml",
    ]
    [config] = [each for each in release.of("ConfigMap") if name_of(each).startswith("otel-collector")]
    assert set(config["data"]) == {"config.yaml", "traces.yaml"}


def _values(more: str | None) -> dict[str, Any]:
    return merged(VALUES, next(load_all((BASE / more).read_text()))) if more else dict(VALUES)


def _part(name: str) -> Endpoint:
    return _pod(name, {"app.kubernetes.io/name": name})


def _mesh_pod(component: str) -> Endpoint:
    labels = {"app.kubernetes.io/part-of": "agent-mesh", "app.kubernetes.io/component": component}
    return _pod(component, labels)


def _pod(name: str, labels: dict[str, str]) -> Endpoint:
    return Endpoint(name, "10.0.0.1", "mesh", labels)


def _endpoint(workload: Workload) -> Endpoint:
    return Endpoint(workload.name, "10.0.0.2", "mesh", workload.labels, component=workload.component)


def _namespace_of(thing: Object) -> str:
    return name_of(thing) if thing["kind"] == "Namespace" else str(thing["metadata"]["namespace"])


def _avoided(workload: Workload) -> str:
    required = workload.spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    [term] = required["nodeSelectorTerms"]
    return str(term["matchExpressions"][0]["values"][0])
