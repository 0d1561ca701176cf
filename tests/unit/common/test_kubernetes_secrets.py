"""The output of `secrets --format kubernetes`, as Kubernetes' own parser reads it."""

import re
from importlib import import_module
from typing import Any

import orjson
import pytest
from mesh_admin.kubernetes_secrets import Place, kubernetes_secrets, to_yaml
from mesh_admin.secrets import environment_of, make_secrets

SECRETS = make_secrets()
PLACE = Place(database="db.example:6432/bots", redis="cache:6379", prefix="demo")
# RFC 1123 names, and the valid keys of a Secret.
NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
KEY = re.compile(r"[-._a-zA-Z0-9]+")

# The keys of each Secret, as the chart refers to them.
KEYS = {
    "gateway": {"GATEWAY_SERVICE_KEY", "GATEWAY_REDIS_URL"},
    "auth": {"AUTH_SERVICE_KEY", "AUTH_DATABASE_URL", "AUTH_SIGNING_KEY"},
    "agent": {"AGENT_SERVICE_KEY", "AGENT_DATABASE_URL", "AGENT_SCALER_DATABASE_URL"},
    "memory": {"MEMORY_SERVICE_KEY", "MEMORY_DATABASE_URL"},
    "eval": {"EVAL_SERVICE_KEY", "EVAL_DATABASE_URL"},
    "auth-migrate": {"AUTH_OWNER_DATABASE_URL"},
    "agent-migrate": {"AGENT_OWNER_DATABASE_URL"},
    "memory-migrate": {"MEMORY_OWNER_DATABASE_URL"},
    "eval-migrate": {"EVAL_OWNER_DATABASE_URL"},
    "bootstrap": {"BOOTSTRAP_DATABASE_PASSWORDS"},
    "database-admin": {"POSTGRES_PASSWORD", "BOOTSTRAP_ADMIN_DATABASE_URL"},
    "redis": {"REDIS_PASSWORD"},
    "service-keys": {"service-jwks.json"},
}


@pytest.fixture(scope="module")
def documents() -> list[dict[str, Any]]:
    # PyYAML has no type stubs here; this use does not need them.
    yaml = import_module("yaml")
    return list(yaml.safe_load_all(to_yaml(kubernetes_secrets(SECRETS, PLACE), namespace="there")))


def test_every_secret_has_its_keys(documents: list[dict[str, Any]]) -> None:
    found = {document["metadata"]["name"]: set(document["stringData"]) for document in documents}

    assert found == {f"demo-{component}": keys for component, keys in KEYS.items()}


def test_documents_are_secrets_of_the_namespace_with_labels(documents: list[dict[str, Any]]) -> None:
    for document in documents:
        assert (document["apiVersion"], document["kind"], document["type"]) == ("v1", "Secret", "Opaque")
        metadata = document["metadata"]
        assert metadata["namespace"] == "there"
        assert metadata["labels"] == {
            "app.kubernetes.io/part-of": "agent-mesh",
            "app.kubernetes.io/managed-by": "mesh-secrets",
        }
        assert NAME.fullmatch(metadata["name"])
        assert all(KEY.fullmatch(key) for key in document["stringData"])


@pytest.mark.parametrize(
    ("database", "namespace", "address"),
    [
        ("postgres:5432/mesh", "there", "postgres.there.svc:5432/mesh"),
        ("postgres:5432/mesh", None, "postgres:5432/mesh"),
        ("db.example:5432/mesh", "there", "db.example:5432/mesh"),
        ("10.0.0.7:5432/mesh", "there", "10.0.0.7:5432/mesh"),
        ("[::1]:5432/mesh", "there", "[::1]:5432/mesh"),
    ],
)
def test_scaler_of_another_namespace_finds_the_database(database: str, namespace: str | None, address: str) -> None:
    place = Place(database=database, redis="valkey:6379", namespace=namespace)

    agent = kubernetes_secrets(SECRETS, place)["mesh-agent"]

    assert agent["AGENT_SCALER_DATABASE_URL"].partition("@")[2].partition("?")[0] == address
    assert agent["AGENT_DATABASE_URL"].partition("@")[2] == database


def test_values_survive_yaml(documents: list[dict[str, Any]]) -> None:
    fields = {document["metadata"]["name"]: document["stringData"] for document in documents}

    where = {"database": PLACE.database, "redis": PLACE.redis}
    assert fields["demo-auth"] == environment_of(SECRETS, "auth", **where)
    assert fields["demo-service-keys"] == {"service-jwks.json": SECRETS.service_jwks()}
    assert orjson.loads(fields["demo-bootstrap"]["BOOTSTRAP_DATABASE_PASSWORDS"]) == SECRETS.passwords
    assert fields["demo-memory"]["MEMORY_DATABASE_URL"].endswith("@db.example:6432/bots")


def test_without_a_namespace_none_is_named() -> None:
    assert "namespace" not in to_yaml(kubernetes_secrets(SECRETS, PLACE))


def test_what_somebody_else_makes_is_left_out() -> None:
    place = Place(database="db:5432", redis="cache:6379", skipped=frozenset({"database-admin", "redis"}))

    assert set(kubernetes_secrets(SECRETS, place)) == {f"mesh-{name}" for name in KEYS.keys() - place.skipped}
