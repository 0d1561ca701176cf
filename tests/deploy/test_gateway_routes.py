"""The chart's HTTP configuration for the gateway matches the gateway's own routes."""

from typing import Any

import pytest
from mesh_common.grpc.health import LIVENESS, READINESS
from mesh_gateway.app import build_app
from mesh_gateway.edge.deps import Gateway
from mesh_gateway.settings import GatewaySettings

from deploy.checks.ports import HTTP_PROBES
from deploy.helm import release_of, value_sets
from deploy.manifests import Object

_UNBOUNDED = "0s"
# Routes that respond only when a model has finished.
_WAITING = ("/chat", "/wait")


@pytest.fixture(scope="module")
def paths() -> dict[str, Any]:
    fields: dict[str, Any] = dict.fromkeys(Gateway.__dataclass_fields__)
    fields["settings"] = GatewaySettings.model_construct()
    found: dict[str, Any] = build_app(Gateway(**fields)).openapi()["paths"]
    return found


def _routes() -> list[Object]:
    """Every rendered HTTPRoute to the gateway service."""
    return [
        route
        for value_set in value_sets()
        for route in release_of(value_set).of("HTTPRoute")
        if any("backendRefs" in rule for rule in route["spec"]["rules"])
    ]


def test_streams_and_answers_of_models_have_no_bound_at_the_proxy(paths: dict[str, Any]) -> None:
    long = [path for path, methods in paths.items() if "text/event-stream" in str(methods) or path.endswith(_WAITING)]

    assert len(long) > len(_WAITING)
    for route in _routes():
        assert [path for path in long if _timeout(route, path) != _UNBOUNDED] == []


def test_all_else_has_a_bound(paths: dict[str, Any]) -> None:
    short = [path for path in paths if path.startswith(("/api/v1/auth", "/api/v1/memories", "/.well-known"))]

    assert short
    for route in _routes():
        assert [path for path in short if _timeout(route, path) == _UNBOUNDED] == []


def test_routes_are_rendered_at_all() -> None:
    assert _routes()


def test_probes_ask_for_routes_that_are_there(paths: dict[str, Any]) -> None:
    assert {HTTP_PROBES[READINESS], HTTP_PROBES[LIVENESS]} <= set(paths)


def _timeout(route: Object, path: str) -> str:
    """The timeout of the rule that a Gateway chooses: the match with the longest prefix."""
    matching = [
        (len(match["path"]["value"]), rule)
        for rule in route["spec"]["rules"]
        for match in rule["matches"]
        if _is_prefix(match["path"]["value"], path)
    ]
    _, rule = max(matching, key=lambda found: found[0])
    return str(rule["timeouts"]["request"])


def _is_prefix(prefix: str, path: str) -> bool:
    """Compares whole path elements, as PathPrefix does."""
    return path == prefix or path.startswith(f"{prefix.rstrip('/')}/")
