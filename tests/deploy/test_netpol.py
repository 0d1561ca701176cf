"""The evaluator of NetworkPolicies follows the rules of the API reference."""

from typing import Any

import pytest

from deploy.netpol import Connection, Endpoint, Policies

_WEB = Endpoint("web", "10.1.0.1", "shop", {"app": "web"}, ports={"http": 8080})
_DB = Endpoint("db", "10.1.0.2", "shop", {"app": "db"}, ports={"sql": 5432})
_PROMETHEUS = Endpoint("prometheus", "10.1.0.3", "monitoring", {"app": "prometheus"}, {"team": "sre"})
_OUTSIDE = Endpoint("outside", "203.0.113.5")


def _policy(app: str | None, **spec: Any) -> dict[str, Any]:
    selector = {"matchLabels": {"app": app}} if app else {}
    return {"metadata": {"namespace": "shop"}, "spec": {"podSelector": selector, **spec}}


def _lets(policies: list[dict[str, Any]], source: Endpoint, target: Endpoint, port: int = 5432) -> bool:
    return Policies(policies).let(Connection(source, target, port))


def test_without_a_policy_everything_passes() -> None:
    assert _lets([], _OUTSIDE, _DB)


def test_a_policy_isolates_the_pods_that_it_selects_and_no_others() -> None:
    policies = [_policy("db", policyTypes=["Ingress"])]

    assert not _lets(policies, _WEB, _DB)
    assert _lets(policies, _DB, _WEB)


def test_both_ends_must_let_it_through() -> None:
    lets_in = _policy("db", policyTypes=["Ingress"], ingress=[{"from": [{"podSelector": {}}]}])
    denies_all = _policy(None, policyTypes=["Ingress", "Egress"])
    lets_out = _policy(
        "web", policyTypes=["Egress"], egress=[{"to": [{"podSelector": {"matchLabels": {"app": "db"}}}]}]
    )

    assert not _lets([denies_all, lets_in], _WEB, _DB)
    assert not _lets([denies_all, lets_out], _WEB, _DB)
    assert _lets([denies_all, lets_in, lets_out], _WEB, _DB)


def test_rules_of_several_policies_add_up() -> None:
    policies = [
        _policy("db", ingress=[{"from": [{"podSelector": {"matchLabels": {"app": name}}}]}]) for name in ("web", "job")
    ]

    assert _lets(policies, _WEB, _DB)


def test_an_empty_rule_lets_everyone_through() -> None:
    assert _lets([_policy("db", ingress=[{}])], _OUTSIDE, _DB)


@pytest.mark.parametrize(
    ("peer", "passes"),
    [
        ({"podSelector": {"matchLabels": {"app": "prometheus"}}}, False),
        ({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}, True),
        ({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "prometheus"}}}, True),
        ({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "grafana"}}}, False),
        ({"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "In", "values": ["sre"]}]}}, True),
        ({"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}}, False),
        ({"ipBlock": {"cidr": "10.1.0.0/16"}}, True),
        ({"ipBlock": {"cidr": "10.1.0.0/16", "except": ["10.1.0.3/32"]}}, False),
    ],
)
def test_peers_are_found_by_pod_namespace_or_address(peer: dict[str, Any], *, passes: bool) -> None:
    """A podSelector without a namespaceSelector means the policy's own namespace."""
    assert _lets([_policy("db", ingress=[{"from": [peer]}])], _PROMETHEUS, _DB) == passes


def test_an_address_outside_is_no_pod() -> None:
    anyone: dict[str, Any] = {"namespaceSelector": {}, "podSelector": {}}

    assert not _lets([_policy("db", ingress=[{"from": [anyone]}])], _OUTSIDE, _DB)


@pytest.mark.parametrize(
    ("ports", "passes"),
    [
        ([{"port": 5432}], True),
        ([{"port": 5433}], False),
        ([{"port": 5000, "endPort": 6000}], True),
        ([{"port": "sql"}], True),
        ([{"port": "http"}], False),
        ([{"port": 5432, "protocol": "UDP"}], False),
        ([{"protocol": "TCP"}], True),
        ([], True),
    ],
)
def test_ports_are_numbers_ranges_or_names(ports: list[dict[str, Any]], *, passes: bool) -> None:
    assert _lets([_policy("db", ingress=[{"ports": ports}])], _WEB, _DB) == passes


def test_a_policy_without_types_isolates_egress_only_when_it_has_rules_for_it() -> None:
    assert _lets([_policy("web", ingress=[])], _WEB, _DB)
    assert not _lets([_policy("web", egress=[])], _WEB, _DB)
