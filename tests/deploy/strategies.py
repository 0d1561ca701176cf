"""Consistent values for property tests: every feature on and off, names and texts of every kind."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from hypothesis import strategies as st
from mesh_common.grpc.edges import SERVICES

from deploy.manifests import Values

type Strategy = st.SearchStrategy[Any]

names: Final = st.from_regex(r"[a-z]([a-z0-9-]{0,18}[a-z0-9])?", fullmatch=True)
# Valid release names that YAML would read as other types.
release_names: Final = st.one_of(names, st.sampled_from(["n", "y", "on", "null", "123", "1e3", "0x1", "mesh"]))
_label_values: Final = st.one_of(
    st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,20}[A-Za-z0-9])?", fullmatch=True),
    st.sampled_from(["true", "1", "0x1"]),
)
# Texts that YAML would read as other types, and texts that templates may handle wrongly.
_HOSTILE: Final = (
    "true",
    "1",
    "1e3",
    "~",
    "null",
    "a: b",
    "- a",
    "#x",
    "{{ .Values }}",
    "a\nb",
    '"',
    "'",
    "%d",
    "",
    " ",
    "é한",
)
_texts: Final = st.one_of(
    st.sampled_from(_HOSTILE), st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=20)
)
_labels: Final = st.dictionaries(names.map(lambda name: f"example.com/{name}"), _label_values, max_size=2)
_annotations: Final = st.dictionaries(names.map(lambda name: f"example.com/{name}"), _texts, max_size=2)
_RESOURCES: Final = (
    {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "2", "memory": "1Gi"}},
    {"requests": {"cpu": 0.5, "memory": "256M"}, "limits": {"memory": "0.5Gi"}},
    {"requests": {"cpu": 1, "memory": 536870912}, "limits": {"cpu": 1, "memory": 536870912}},
    {"requests": {"cpu": "0.125", "memory": "100M"}, "limits": {"cpu": "1500m", "memory": "1G"}},
)
_resources: Final = st.sampled_from(_RESOURCES)
_SETTINGS: Final[Mapping[str, Mapping[str, Strategy]]] = {
    "gateway": {
        "GATEWAY_CORS_ORIGINS": st.lists(st.just("https://app.example.com"), max_size=2),
        "GATEWAY_TRUSTED_PROXIES": st.just(["10.0.0.0/8"]),
        "GATEWAY_TRUSTED_PROXY_HOPS": st.just(1),
        "GATEWAY_MAX_OPEN_STREAMS": st.integers(1, 5000),
    },
    "auth": {"AUTH_REGISTRATION_OPEN": st.booleans(), "AUTH_DEFAULT_TOOLS": st.lists(names, max_size=2)},
    "agent": {
        "AGENT_MAX_RUNS": st.integers(1, 5000),
        "AGENT_EVAL_SAMPLE_RATIO": st.sampled_from([0, 0.5, 1]),
        "AGENT_OPENAI_BASE_URL": st.just("http://models.example.com/v1"),
    },
    "memory": {"MEMORY_EXTRACTION_MODEL": _texts, "MEMORY_EMBEDDING_QUERY_PREFIX": st.just("query: ")},
    "eval": {"EVAL_JUDGE_MODEL": names, "EVAL_RUNS_AT_ONCE": st.integers(1, 100)},
}
_SECRETS: Final = (
    *SERVICES,
    *("authMigrate", "agentMigrate", "memoryMigrate", "evalMigrate"),
    *("bootstrap", "databaseAdmin", "serviceKeys", "provider"),
)


def _maybe(**parts: Strategy) -> Strategy:
    """A map in which each of these keys may be missing."""
    return st.fixed_dictionaries({}, optional=parts)


def _map(**parts: Strategy) -> Strategy:
    return st.fixed_dictionaries(parts)


_on, _off = st.sampled_from([True]), st.sampled_from([False])
_namespaces: Final = names.map(lambda name: {"matchLabels": {"kubernetes.io/metadata.name": name}})
_pods: Final = names.map(lambda name: {"matchLabels": {"app.kubernetes.io/name": f"app-{name}"}})
_peer: Final = st.one_of(
    _map(podSelector=_pods),
    _map(namespaceSelector=_namespaces),
    _map(namespaceSelector=_namespaces, podSelector=_pods),
    st.sampled_from(["10.30.0.0/16", "198.51.100.0/24", "2001:db8::/32"]).map(lambda cidr: {"ipBlock": {"cidr": cidr}}),
)
_peers: Final = st.lists(_peer, max_size=2)
_rules: Final = st.lists(
    _map(to=st.lists(_peer, min_size=1, max_size=2), ports=st.just([{"port": 8090, "protocol": "TCP"}])), max_size=1
)
_secret_sources: Final = st.one_of(
    st.just({"secrets": {"create": True}, "database": {"host": "postgres"}, "redis": {"host": "valkey"}}),
    names.map(lambda name: {"secrets": {"prefix": name}}),
    st.just({"secrets": {name: {"existingSecret": f"own-{name.lower()}"} for name in _SECRETS}}),
    # One Secret may contain all keys.
    st.just({"secrets": {name: {"existingSecret": "everything"} for name in _SECRETS}}),
)
_network: Final = _maybe(
    enabled=st.booleans(),
    ingressFrom=_peers,
    monitoringFrom=_peers,
    dns=_maybe(to=_peers, ports=st.sampled_from([[53], [53, 8053]])),
    database=_map(to=_peers),
    redis=_map(to=_peers),
    otlp=_map(to=_peers),
    apiServer=_map(to=_peers),
    provider=_maybe(public=st.booleans(), egress=_rules),
)
_routes: Final = st.one_of(
    st.just({"enabled": False}),
    _map(
        enabled=_on,
        hostnames=st.lists(st.just("mesh.example.com"), max_size=1),
        gateway=_map(create=_on, className=names, tlsSecretName=st.one_of(st.just(""), names)),
    ),
    _map(
        enabled=_on,
        parentRefs=st.just([{"name": "public", "namespace": "ingress"}]),
        annotations=_annotations,
    ),
)
_ingress: Final = _maybe(
    enabled=st.booleans(),
    className=st.one_of(st.just(""), names),
    annotations=_annotations,
    hosts=st.lists(st.sampled_from(["a.example.com", "b.example.com"]), max_size=2, unique=True),
)
_keda: Final = _map(
    enabled=st.booleans(),
    prometheusAddress=st.just("http://prometheus.monitoring:9090"),
    gateway=_maybe(enabled=st.booleans(), streamsPerReplica=st.integers(1, 1000)),
    agent=_maybe(enabled=st.booleans(), runsPerReplica=st.integers(1, 1000)),
)
_monitoring: Final = _maybe(
    scrapeAnnotations=st.booleans(),
    serviceMonitor=_maybe(enabled=st.booleans(), labels=_labels),
    prometheusRule=_maybe(
        enabled=st.booleans(),
        groups=st.just(
            [{"name": "g", "rules": [{"alert": "A", "expr": "up == 0", "annotations": {"a": "{{ $value }}"}}]}]
        ),
    ),
    dashboards=_maybe(enabled=st.booleans()),
)
_telemetry: Final = _maybe(
    otlpEndpoint=st.sampled_from(
        ["", "http://collector", "http://collector.observability:4317", "https://otlp.example.com:443"]
    ),
    sampleRatio=st.sampled_from([0, 0.05, 1]),
)
_image: Final = _maybe(
    registry=st.sampled_from(["", "registry.example.com", "registry.example.com:5000/team/mesh"]),
    tag=st.sampled_from(["", "1.2.3", "1.2.3_build.5", "sha-0a1b2c3"]),
    pullPolicy=st.sampled_from(["Always", "IfNotPresent", "Never"]),
    pullSecrets=st.lists(names, max_size=2, unique=True),
)
_own_image: Final = _maybe(
    registry=st.sampled_from(["", "other.example.com"]),
    tag=st.sampled_from(["", "2.0.0"]),
    digest=st.sampled_from(["", "sha256:" + "0a" * 32]),
)
# The operator's account, perhaps for all services; or the chart's own, whose name must differ from the shared one.
_accounts: Final = st.one_of(
    _map(create=_off, name=st.one_of(st.just(""), names)),
    _map(create=_on, name=st.just(""), annotations=_annotations),
)
_jobs: Final = _maybe(
    enabled=st.booleans(),
    bootstrap=_map(enabled=st.booleans()),
    resources=_resources,
    podAnnotations=_annotations,
    podLabels=_labels,
    nodeSelector=_labels,
)


@st.composite
def values(draw: st.DrawFn) -> Values:
    """A valid set of values."""
    age = draw(st.integers(1, 60))
    drawn = draw(
        _map(
            commonLabels=_labels,
            commonAnnotations=_annotations,
            nameOverride=st.one_of(st.just(""), names),
            fullnameOverride=st.one_of(st.just(""), names),
            image=_image,
            serviceDefaults=_service(age),
            services=st.fixed_dictionaries({service: _named_service(service, age) for service in SERVICES}),
            networkPolicy=_network,
            httpRoute=_routes,
            ingress=_ingress,
            keda=_keda,
            monitoring=_monitoring,
            telemetry=_telemetry,
            migrations=_jobs,
            test=_maybe(enabled=st.booleans()),
            shareProcessNamespace=st.booleans(),
            grpc=_grpc(age),
        )
    )
    source: dict[str, Any] = draw(_secret_sources)
    secrets = {**source["secrets"], "revision": draw(st.sampled_from(["", "2", "2026-11-24"]))}
    return {**drawn, **source, "secrets": secrets}


def _grpc(age: int) -> Strategy:
    modes = (
        {"loadBalancing": "client", "tls": {"enabled": True}},
        {"loadBalancing": "client"},
        {"loadBalancing": "mesh"},
    )
    return st.sampled_from([{**mode, "maxConnectionAgeSeconds": age} for mode in modes])


def _named_service(service: str, age: int) -> Strategy:
    """A service's overrides of the defaults, with settings of its own."""
    own = _SETTINGS[service]
    env = st.fixed_dictionaries({}, optional=dict(own))
    database: Mapping[str, Strategy] = (
        {}
        if service == "gateway"
        else {"database": _map(poolSize=st.integers(1, 200), maxOverflow=st.integers(0, 200))}
    )
    return st.tuples(st.one_of(st.just({}), _service(age)), _maybe(env=env, image=_own_image, **database)).map(_joined)


def _service(age: int) -> Strategy:
    """Generates blocks with interdependent parts as a whole, so that defaults and overrides mix freely."""
    scale = st.tuples(st.integers(1, 4), st.integers(0, 4), st.booleans()).flatmap(_scale)
    rest = _map(
        preStopSeconds=st.integers(age * 11 // 10 + 1, 120),
        drainSeconds=st.integers(1, 300),
        resources=_resources,
    )
    extras = _maybe(
        annotations=_annotations,
        podAnnotations=_annotations,
        podLabels=_labels,
        serviceAnnotations=_annotations,
        serviceAccount=_accounts,
        topologySpread=_maybe(
            enabled=st.booleans(), whenUnsatisfiable=st.sampled_from(["ScheduleAnyway", "DoNotSchedule"])
        ),
        maxSurge=st.sampled_from([1, 2, "1%", "50%"]),
        nodeSelector=_labels,
        tolerations=st.just([{"key": "a", "operator": "Exists"}]),
        priorityClassName=names,
        extraEnv=st.just([{"name": "OTEL_RESOURCE_ATTRIBUTES", "value": "deployment.environment=test"}]),
        networkPolicy=_maybe(extraEgress=_rules),
        extraVolumes=st.just([{"name": "cache", "emptyDir": {}}]),
    )
    return st.tuples(scale, rest, extras).map(_joined).map(_mount_what_is_there)


def _scale(drawn: tuple[int, int, bool]) -> Strategy:
    fewest, more, is_scaled = drawn
    budgets: list[Values] = [
        {"maxUnavailable": 1, "minAvailable": None},
        {"maxUnavailable": "25%", "minAvailable": None},
    ]
    if fewest > 1:
        budgets += [{"minAvailable": fewest - 1}]
    return _map(
        replicas=st.just(fewest),
        autoscaling=st.just({"enabled": is_scaled, "minReplicas": fewest, "maxReplicas": fewest + more}),
        pdb=st.tuples(st.sampled_from(budgets), _maybe(enabled=st.booleans())).map(_joined),
    )


def _mount_what_is_there(service: Values) -> Values:
    mounts = [{"name": volume["name"], "mountPath": f"/{volume['name']}"} for volume in service.get("extraVolumes", [])]
    return {**service, "extraVolumeMounts": mounts, "extraVolumes": service.get("extraVolumes", [])}


def _joined(parts: Sequence[Values]) -> Values:
    return {key: value for part in parts for key, value in part.items()}
