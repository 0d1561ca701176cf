"""Invalid values make `helm template` fail with a sentence that names them."""

from typing import Any

import pytest

from deploy.helm import TRIAL, Refused, release_of, template
from deploy.manifests import Values, merged

# Helm's messages if a template fails on a value before a check rejects it.
_STUMBLES = (
    "nil pointer",
    "wrong type for value",
    "error converting YAML",
    "can't evaluate field",
    "interface conversion",
)


def _agent(**values: Any) -> Values:
    return {"services": {"agent": values}}


_CPU = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "1Gi"}}


def _resources(kind: str, name: str, amount: object) -> Values:
    return merged({"requests": _CPU["requests"], "limits": _CPU["limits"]}, {kind: {name: amount}})


BAD: dict[str, tuple[Values, tuple[str, ...]]] = {
    "misspelt value": ({"netwrokPolicy": {}}, ("netwrokPolicy",)),
    "misspelt value of a service": (_agent(replica=2), ("agent", "replica")),
    "misspelt value of all services": ({"serviceDefaults": {"drainSecs": 5}}, ("serviceDefaults", "drainSecs")),
    "misspelt service": ({"services": {"agents": {}}}, ("services", "agents")),
    "misspelt setting": (_agent(env={"AGENT_MAX_RUN": 5}), ("AGENT_MAX_RUN",)),
    "setting of another service": (_agent(env={"AUTH_REGISTRATION_OPEN": False}), ("AUTH_REGISTRATION_OPEN",)),
    "setting that the chart makes": (_agent(env={"AGENT_DRAIN_S": 5}), ("AGENT_DRAIN_S",)),
    "models of another service": ({"services": {"auth": {"models": []}}}, ("services", "auth", "models")),
    "no models": (_agent(models=[]), ("services.agent.models",)),
    "model without a name": (_agent(models=[{"provider_model": "x"}]), ("models", "name")),
    "no database host": ({"database": {"host": ""}}, ("database.host",)),
    "no redis host": ({"redis": {"host": ""}}, ("redis.host",)),
    "port that is none": ({"database": {"port": 70_000}}, ("database", "port")),
    "min above max": (
        _agent(autoscaling={"minReplicas": 5, "maxReplicas": 4}),
        ("services.agent.autoscaling", "minReplicas"),
    ),
    "min above max of all": (
        {"serviceDefaults": {"autoscaling": {"minReplicas": 7}}},
        ("autoscaling.minReplicas (7)", "maxReplicas"),
    ),
    "no replicas": (_agent(autoscaling={"minReplicas": 0}), ("agent", "autoscaling", "minReplicas")),
    "fewer than no replicas": (_agent(replicas=-1), ("agent", "replicas")),
    "target that is no percentage": (
        _agent(autoscaling={"targetCPUUtilizationPercentage": 0}),
        ("targetCPUUtilizationPercentage",),
    ),
    "all replicas must stay": (_agent(pdb={"minAvailable": 2}), ("services.agent.pdb.minAvailable",)),
    "all replicas must stay, in percent": (_agent(pdb={"minAvailable": "100%"}), ("services.agent.pdb.minAvailable",)),
    "rounded up, all replicas must stay": (_agent(pdb={"minAvailable": "51%"}), ("services.agent.pdb.minAvailable",)),
    "no replica may go": (_agent(pdb={"maxUnavailable": 0}), ("agent", "pdb", "maxUnavailable")),
    "no replica may go, in percent": (_agent(pdb={"maxUnavailable": "0%"}), ("agent", "pdb", "maxUnavailable")),
    "no surge": (_agent(maxSurge=0), ("agent", "maxSurge")),
    "quantity with a wrong suffix": (
        _agent(resources=_resources("limits", "memory", "1GB")),
        ("agent", "resources", "memory"),
    ),
    "quantity that is a word": (_agent(resources=_resources("requests", "cpu", "lots")), ("agent", "resources", "cpu")),
    "quantity below nothing": (_agent(resources=_resources("requests", "cpu", "-1")), ("agent", "resources", "cpu")),
    "request above its limit": (
        _agent(resources=_resources("requests", "memory", "1025Mi")),
        ("services.agent.resources.requests.memory",),
    ),
    "request of the migrations above its limit": (
        {"migrations": {"resources": {"requests": {"cpu": "1500m"}}}},
        ("migrations.resources.requests.cpu",),
    ),
    "preStop below the age of connections": (
        _agent(preStopSeconds=30),
        ("services.agent.preStopSeconds (30)", "grpc.maxConnectionAgeSeconds (30)"),
    ),
    "preStop within the spread of that age": (_agent(preStopSeconds=33), ("services.agent.preStopSeconds",)),
    "age of connections above every preStop": (
        {"grpc": {"maxConnectionAgeSeconds": 40}},
        ("services.auth.preStopSeconds",),
    ),
    "no preStop": ({"services": {"gateway": {"preStopSeconds": 0}}}, ("gateway", "preStopSeconds")),
    "no drain": (_agent(drainSeconds=0), ("agent", "drainSeconds")),
    "TLS under a service mesh": (
        {"grpc": {"loadBalancing": "mesh", "tls": {"enabled": True}}},
        ("grpc.tls.enabled", "grpc.loadBalancing"),
    ),
    "unknown load balancing": ({"grpc": {"loadBalancing": "dns"}}, ("grpc", "loadBalancing")),
    "issuer without a scheme": ({"issuer": "mesh.example.com"}, ("issuer",)),
    "collector without a scheme": ({"telemetry": {"otlpEndpoint": "collector:4317"}}, ("telemetry", "otlpEndpoint")),
    "ratio above one": ({"telemetry": {"sampleRatio": 5}}, ("telemetry", "sampleRatio")),
    "tag with a colon": ({"image": {"tag": "a:b"}}, ("image", "tag")),
    "digest that is none": (_agent(image={"digest": "sha256:abc"}), ("agent", "image", "digest")),
    "pull policy that is none": ({"image": {"pullPolicy": "Sometimes"}}, ("image", "pullPolicy")),
    "name with capitals": ({"fullnameOverride": "Mesh"}, ("fullnameOverride",)),
    "one account made five times": (
        {"serviceDefaults": {"serviceAccount": {"name": "mesh"}}},
        ("serviceDefaults.serviceAccount.name",),
    ),
    "one account made twice": (
        {"services": {name: {"serviceAccount": {"name": "mesh"}} for name in ("memory", "agent")}},
        ("services.memory.serviceAccount.name", "services.agent (mesh)"),
    ),
    "route to no Gateway": ({"httpRoute": {"enabled": True}}, ("httpRoute.parentRefs",)),
    "Gateway of no class": (
        {"httpRoute": {"enabled": True, "gateway": {"create": True}}},
        ("httpRoute.gateway.className",),
    ),
    "KEDA without Prometheus": ({"keda": {"enabled": True}}, ("keda.prometheusAddress",)),
    "probe that never fails": (_agent(probes={"liveness": {"failureThreshold": 0}}), ("probes", "failureThreshold")),
    "texts where a list belongs": ({"ingress": {"enabled": True, "hosts": "a.example.com"}}, ("ingress", "hosts")),
    "number as a label": ({"commonLabels": {"team": 5}}, ("commonLabels", "team")),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_value_is_named(fault: str) -> None:
    changes, names = BAD[fault]

    with pytest.raises(Refused) as refused:
        template(merged(TRIAL, changes))

    said = str(refused.value).replace("/", ".")
    assert [name for name in names if name not in said] == []
    assert [stumble for stumble in _STUMBLES if stumble in said] == []


def test_every_secret_without_a_source_is_named() -> None:
    with pytest.raises(Refused) as refused:
        template({})

    said = str(refused.value)
    for secret in (
        "gateway",
        "auth",
        "agent",
        "memory",
        "eval",
        "authMigrate",
        "bootstrap",
        "databaseAdmin",
        "serviceKeys",
    ):
        assert f"secrets.{secret}.existingSecret" in said
    assert "secrets.create" in said
    assert "secrets.prefix" in said


def test_only_the_secret_that_is_missing_is_named() -> None:
    given: Values = {
        "secrets": {
            name: {"existingSecret": f"my-{name.lower()}"}
            for name, value in release_of("external").values["secrets"].items()
            if isinstance(value, dict) and "existingSecret" in value
        }
    }

    with pytest.raises(Refused) as refused:
        template(merged(given, {"secrets": {"auth": {"existingSecret": ""}}}))

    assert "secrets.auth.existingSecret" in str(refused.value)
    assert "secrets.agent.existingSecret" not in str(refused.value)
