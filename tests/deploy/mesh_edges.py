"""The connections that the mesh needs by its code and the values, which NetworkPolicies must allow."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from itertools import product
from typing import Final
from urllib.parse import urlsplit

from mesh_common.grpc.edges import ALLOWED_CALLERS, SERVICES

from deploy.commands import SERVICE_SETTINGS
from deploy.manifests import Release, Values, Workload
from deploy.netpol import Connection, Endpoint, Peer, Protocol, peer_matches

GRPC_PORT: Final = 50051
HTTP_PORT: Final = 8000
METRICS_PORT: Final = 9464
_OTLP_PORT: Final = 4317
_HTTPS_PORT: Final = 443
# The port of the API server's Service, and its target port in most clusters.
API_PORTS: Final = (443, 6443)
# Networks without any model provider: clusters and clouds use them internally.
_PRIVATE: Final = (
    "10.0.0.0/8",
    "100.64.0.0/10",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "fc00::/7",
    "fe80::/10",
)


@dataclass(frozen=True, slots=True)
class Edge:
    """A component may connect with these peers (without any: all) on these ports (without any: all)."""

    ports: tuple[int, ...]
    peers: Sequence[Peer] = ()
    protocols: tuple[Protocol, ...] = ("TCP",)

    def holds(self, other: Endpoint, port: int, protocol: Protocol, namespace: str) -> bool:
        is_port = not self.ports or port in self.ports
        is_peer = not self.peers or any(peer_matches(peer, other, namespace) for peer in self.peers)
        return is_port and protocol in self.protocols and is_peer


@dataclass(frozen=True, slots=True)
class Party:
    """An end of connections and the edges it needs. An end outside the release accepts everything."""

    endpoint: Endpoint
    outgoing: tuple[Edge, ...]
    incoming: tuple[Edge, ...]


def calls() -> set[tuple[str, str]]:
    """(caller, callee) of every RPC."""
    return {(caller, rpc.split(".")[1]) for rpc, callers in ALLOWED_CALLERS.items() for caller in callers}


def tried(release: Release) -> Iterator[tuple[Connection, bool]]:
    """Every possible connection with a pod of the release at one end, and whether both ends need it."""
    parties = [
        Party(endpoint, tuple(outgoing(release, endpoint)), tuple(incoming(release, endpoint)))
        for endpoint in endpoints(release)
    ]
    protocols: tuple[Protocol, ...] = ("TCP", "UDP")
    for source, target, port, protocol in product(parties, parties, _ports_of_interest(release), protocols):
        if source.endpoint.component or target.endpoint.component:
            connection = Connection(source.endpoint, target.endpoint, port, protocol)
            yield connection, _is_wanted(connection, source, target, release.namespace)


def _is_wanted(connection: Connection, source: "Party", target: "Party", namespace: str) -> bool:
    port, protocol = connection.port, connection.protocol
    return any(edge.holds(target.endpoint, port, protocol, namespace) for edge in source.outgoing) and any(
        edge.holds(source.endpoint, port, protocol, namespace) for edge in target.incoming
    )


def outgoing(release: Release, source: Endpoint) -> Iterator[Edge]:
    component = source.component
    if not component:
        yield Edge((), (), ("TCP", "UDP"))
        return
    policy = release.values["networkPolicy"]
    yield Edge(tuple(policy["dns"]["ports"]), policy["dns"]["to"], ("UDP", "TCP"))
    if component in SERVICES:
        yield from _of_service(release, component)
    elif component == "migrate":
        yield Edge((release.values["database"]["port"],), policy["database"]["to"])
    elif component == "secrets":
        yield Edge(API_PORTS, policy["apiServer"]["to"])
    elif component == "test":
        yield Edge((HTTP_PORT,), _pods(release, "gateway"))


def incoming(release: Release, target: Endpoint) -> Iterator[Edge]:
    component = target.component
    if not component:
        yield Edge((), (), ("TCP", "UDP"))
        return
    if component not in SERVICES:
        return
    policy = release.values["networkPolicy"]
    if component == "gateway":
        callers = policy["ingressFrom"]
        yield Edge((HTTP_PORT,), [*callers, *_pods(release, "test")] if callers else ())
    else:
        yield Edge((GRPC_PORT,), _pods(release, *(caller for caller, callee in calls() if callee == component)))
    if policy["monitoringFrom"]:
        yield Edge((METRICS_PORT,), policy["monitoringFrom"])
    yield from _given(release.service_values(component)["networkPolicy"]["extraIngress"], "from")


def _of_service(release: Release, service: str) -> Iterator[Edge]:
    """A service calls everything for which it has a setting."""
    values, policy = release.values, release.values["networkPolicy"]
    fields = set(SERVICE_SETTINGS[service].model_fields)
    callees = [callee for caller, callee in calls() if caller == service]
    if callees:
        yield Edge((GRPC_PORT,), _pods(release, *callees))
    if "database_url" in fields:
        yield Edge((values["database"]["port"],), policy["database"]["to"])
    if "redis_url" in fields:
        yield Edge((values["redis"]["port"],), policy["redis"]["to"])
    if endpoint := values["telemetry"]["otlpEndpoint"]:
        yield Edge((urlsplit(endpoint).port or _OTLP_PORT,), policy["otlp"]["to"])
    if "openai_base_url" in fields:
        if policy["provider"]["public"]:
            yield Edge((_HTTPS_PORT,), [_public("0.0.0.0/0"), _public("::/0")])
        yield from _given(policy["provider"]["egress"], "to")
    yield from _given(release.service_values(service)["networkPolicy"]["extraEgress"], "to")


def _public(cidr: str) -> Peer:
    version = ip_network(cidr).version
    return {"ipBlock": {"cidr": cidr, "except": [block for block in _PRIVATE if ip_network(block).version == version]}}


def _given(rules: Sequence[Values], direction: str) -> Iterator[Edge]:
    """The operator's rules, for numbered TCP ports; a rule without ports covers all of them."""
    for rule in rules:
        ports = tuple(port["port"] for port in rule.get("ports", []))
        yield Edge(ports, rule.get(direction, ()), ("TCP",) if ports else ("TCP", "UDP"))


def _pods(release: Release, *components: str) -> list[Peer]:
    return [
        {"podSelector": {"matchLabels": dict(workload.labels)}}
        for workload in release.workloads
        if workload.component in components
    ]


def endpoints(release: Release) -> list[Endpoint]:
    """Every pod of the release, every peer in the values, and unrelated endpoints."""
    pods = [_endpoint(workload, f"10.244.0.{number}", release) for number, workload in enumerate(release.workloads, 10)]
    return pods + [_example(peer, release) for peer in _peers_of_values(release)] + _strangers(release)


def _ports_of_interest(release: Release) -> list[int]:
    values, endpoint = release.values, release.values["telemetry"]["otlpEndpoint"]
    return sorted(
        {
            HTTP_PORT,
            GRPC_PORT,
            GRPC_PORT + 1,
            METRICS_PORT,
            values["database"]["port"],
            values["redis"]["port"],
            _HTTPS_PORT,
            _OTLP_PORT,
            urlsplit(endpoint).port or _OTLP_PORT,
            *API_PORTS,
            *values["networkPolicy"]["dns"]["ports"],
            *(port["port"] for rule in values["networkPolicy"]["provider"]["egress"] for port in rule.get("ports", [])),
        }
    )


def _peers_of_values(release: Release) -> Iterator[Peer]:
    policy = release.values["networkPolicy"]
    for peers in (policy["ingressFrom"], policy["monitoringFrom"], *(policy[part]["to"] for part in _PARTS)):
        yield from peers
    own = [release.service_values(service)["networkPolicy"] for service in SERVICES]
    rules = policy["provider"]["egress"] + [rule for each in own for rule in each["extraEgress"] + each["extraIngress"]]
    for rule in rules:
        yield from (*rule.get("to", ()), *rule.get("from", ()))


_PARTS: Final = ("dns", "database", "redis", "otlp", "apiServer")


def _example(peer: Peer, release: Release) -> Endpoint:
    """An endpoint that matches a peer in the values."""
    if block := peer.get("ipBlock"):
        hosts = ip_network(block["cidr"]).hosts()
        address = next(host for host in hosts if not _is_excepted(str(host), block.get("except") or []))
        return Endpoint(f"address {address}", str(address))
    spaces = dict((peer.get("namespaceSelector") or {}).get("matchLabels") or {})
    namespace = spaces.get(
        "kubernetes.io/metadata.name", "elsewhere" if "namespaceSelector" in peer else release.namespace
    )
    labels = dict((peer.get("podSelector") or {}).get("matchLabels") or {})
    return Endpoint(f"pod {labels} of {namespace}", "10.244.3.3", namespace, labels, spaces)


def _is_excepted(address: str, blocks: Sequence[str]) -> bool:
    return any(ip_address(address) in ip_network(block) for block in blocks)


def _strangers(release: Release) -> list[Endpoint]:
    return [
        Endpoint("a stranger in its namespace", "10.244.4.4", release.namespace, {"app": "stranger"}),
        Endpoint("a stranger elsewhere", "10.244.5.5", "strangers", {"app": "stranger"}),
        # In another namespace, the labels of a service must not give its access.
        Endpoint("an impostor elsewhere", "10.244.5.6", "strangers", dict(release.deployments()[0].labels)),
        Endpoint("a public address", "93.184.215.14"),
        Endpoint("a private address", "10.99.0.9"),
        Endpoint("the metadata server", "169.254.169.254"),
        Endpoint("a public address (IPv6)", "2606:2800:21f:cb07::1"),
        Endpoint("a private address (IPv6)", "fd00::9"),
    ]


def _endpoint(workload: Workload, address: str, release: Release) -> Endpoint:
    ports = [port for container in workload.containers() for port in container.get("ports", [])]
    return Endpoint(
        workload.component,
        address,
        release.namespace,
        workload.labels,
        ports={port["name"]: port["containerPort"] for port in ports},
        component=workload.component,
    )
