"""The connections that NetworkPolicies allow, by the rules of networking.k8s.io/v1."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_address, ip_network
from typing import Literal

from deploy.manifests import Object

type Protocol = Literal["TCP", "UDP"]
type Peer = Mapping[str, Object]


@dataclass(frozen=True, slots=True, eq=False)
class Endpoint:
    """A pod, or, without a namespace, an address outside the cluster. Equal only to itself.

    `ports` are the pod's named ports, `component` is its component in the checked release (else empty).
    """

    name: str
    address: str
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)
    component: str = ""

    @property
    def all_namespace_labels(self) -> Mapping[str, str]:
        """Kubernetes itself sets the name as a label."""
        return {**self.namespace_labels, "kubernetes.io/metadata.name": self.namespace}


@dataclass(frozen=True, slots=True)
class Connection:
    source: Endpoint
    target: Endpoint
    port: int
    protocol: Protocol = "TCP"

    def __str__(self) -> str:
        return f"{self.source.name} -> {self.target.name} at {self.port}/{self.protocol}"


class Policies:
    """All NetworkPolicies of a cluster."""

    def __init__(self, policies: Sequence[Object]) -> None:
        self._policies = policies
        self._isolating: dict[tuple[Endpoint, str], list[Object]] = {}

    def let(self, connection: Connection) -> bool:
        """Both the source's egress and the target's ingress must allow it."""
        return self._lets_out(connection) and self._lets_in(connection)

    def _lets_out(self, connection: Connection) -> bool:
        isolating = self._of(connection.source, "Egress")
        return not isolating or any(
            _port_matches(rule, connection) and _any_peer(rule.get("to"), connection.target, policy)
            for policy in isolating
            for rule in policy["spec"].get("egress") or []
        )

    def _lets_in(self, connection: Connection) -> bool:
        isolating = self._of(connection.target, "Ingress")
        return not isolating or any(
            _port_matches(rule, connection) and _any_peer(rule.get("from"), connection.source, policy)
            for policy in isolating
            for rule in policy["spec"].get("ingress") or []
        )

    def _of(self, endpoint: Endpoint, direction: str) -> list[Object]:
        """The policies that isolate an endpoint in this direction. If there are none, everything is allowed."""
        key = (endpoint, direction)
        if key not in self._isolating:
            self._isolating[key] = [
                policy
                for policy in self._policies
                if endpoint.namespace == policy["metadata"]["namespace"]
                and selects(policy["spec"].get("podSelector") or {}, endpoint.labels)
                and direction in _types_of(policy["spec"])
            ]
        return self._isolating[key]


def _types_of(spec: Object) -> Iterable[str]:
    default = ["Ingress", "Egress"] if "egress" in spec else ["Ingress"]
    types: list[str] = spec.get("policyTypes") or default
    return types


def _any_peer(peers: Sequence[Peer] | None, endpoint: Endpoint, policy: Object) -> bool:
    """No peers, or an empty list, means all peers."""
    namespace = policy["metadata"]["namespace"]
    return not peers or any(peer_matches(peer, endpoint, namespace) for peer in peers)


def peer_matches(peer: Peer, endpoint: Endpoint, own_namespace: str) -> bool:
    if block := peer.get("ipBlock"):
        return _within(block, endpoint.address)
    if not endpoint.namespace:
        return False
    if "namespaceSelector" in peer:
        is_namespace = selects(peer["namespaceSelector"] or {}, endpoint.all_namespace_labels)
    else:
        is_namespace = endpoint.namespace == own_namespace
    return is_namespace and selects(peer.get("podSelector") or {}, endpoint.labels)


def _within(block: Object, address: str) -> bool:
    return _is_in(address, block["cidr"]) and not any(_is_in(address, cidr) for cidr in block.get("except") or [])


@cache
def _is_in(address: str, cidr: str) -> bool:
    return ip_address(address) in ip_network(cidr)


def _port_matches(rule: Object, connection: Connection) -> bool:
    """No ports, or an empty list, means all ports."""
    ports: Sequence[Object] = rule.get("ports") or []
    return not ports or any(_is_port(port, connection) for port in ports)


def _is_port(entry: Object, connection: Connection) -> bool:
    if entry.get("protocol", "TCP") != connection.protocol:
        return False
    if "port" not in entry:
        return True
    port: int | str = entry["port"]
    if isinstance(port, str):
        return connection.target.ports.get(port) == connection.port
    last: int = entry.get("endPort", port)
    return port <= connection.port <= last


def selects(selector: Mapping[str, object], labels: Mapping[str, str]) -> bool:
    """Follows metav1.LabelSelector: an empty selector selects everything."""
    wanted = selector.get("matchLabels") or {}
    expressions = selector.get("matchExpressions") or []
    assert isinstance(wanted, Mapping)
    assert isinstance(expressions, list)
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        _holds(expression, labels) for expression in expressions
    )


def _holds(expression: Object, labels: Mapping[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or []
    match expression["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case operator:
            raise ValueError(f"no operator of label selectors: {operator}")
