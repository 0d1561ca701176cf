"""The secret set as Kubernetes Secrets: their names, their fields and their YAML."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from mesh_common.grpc.edges import SERVICES

from mesh_admin.bootstrap_db import SCHEMAS
from mesh_admin.secrets import (
    SecretSet,
    admin_environment,
    bootstrap_environment,
    database_url,
    environment_of,
    owner_environment,
)

# The operator may provide these two Secrets, if the database or Redis already exists.
SKIPPABLE: Final = ("database-admin", "redis")
_LABELS: Final = {
    "app.kubernetes.io/part-of": "agent-mesh",
    "app.kubernetes.io/managed-by": "mesh-secrets",
}
# Sets the role through the connection's options, because the client that counts runs (KEDA) cannot set it.
_AS_WORKER: Final = "?options=-c%20role%3Dagent_worker"

# The name of a Service: an RFC 1035 label, which has no dot.
_SERVICE_NAME: Final = re.compile("[a-z]([a-z0-9-]*[a-z0-9])?")

Fields = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The location of a mesh. `prefix` starts the names of Secrets.

    `redis` is `host:port`; `database` is `host:port` or `host:port/name`. A host without a dot is a Service of
    `namespace`, if that is set.
    """

    database: str
    redis: str
    prefix: str = "mesh"
    namespace: str | None = None
    skipped: frozenset[str] = frozenset()


def kubernetes_secrets(secret_set: SecretSet, place: Place) -> dict[str, Fields]:
    """Fields by Secret name: one Secret for each service, each migration and each shared part."""
    return {
        f"{place.prefix}-{component}": fields
        for component, fields in _components(secret_set, place).items()
        if component not in place.skipped
    }


def _components(secret_set: SecretSet, place: Place) -> dict[str, Fields]:
    services: dict[str, Fields] = {
        service: environment_of(secret_set, service, database=place.database, redis=place.redis) for service in SERVICES
    }
    services["agent"]["AGENT_SCALER_DATABASE_URL"] = (
        database_url(secret_set, "agent_login_a", _from_any_namespace(place)) + _AS_WORKER
    )
    migrations = {
        f"{schema}-migrate": owner_environment(secret_set, schema, database=place.database) for schema in SCHEMAS
    }
    shared = {
        "bootstrap": bootstrap_environment(secret_set),
        "database-admin": admin_environment(secret_set, database=place.database),
        "redis": {"REDIS_PASSWORD": secret_set.redis_password},
        "service-keys": {"service-jwks.json": secret_set.service_jwks()},
    }
    return services | migrations | shared


def _from_any_namespace(place: Place) -> str:
    """The database's address for KEDA, which resolves names from its own namespace."""
    host, separator, rest = place.database.partition(":")
    is_service = place.namespace is not None and _SERVICE_NAME.fullmatch(host)
    return f"{host}.{place.namespace}.svc{separator}{rest}" if is_service else place.database


def manifest(
    name: str, fields: Mapping[str, str], *, namespace: str | None = None, annotations: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """One Secret in the API's form."""
    metadata = {
        "name": name,
        **({"namespace": namespace} if namespace else {}),
        "labels": _LABELS,
        **({"annotations": dict(annotations)} if annotations else {}),
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": "Opaque",
        "stringData": dict(fields),
    }


def to_yaml(secrets: Mapping[str, Fields], *, namespace: str | None = None) -> str:
    """All Secrets as one stream of YAML documents."""
    return "---\n".join(_yaml(manifest(name, fields, namespace=namespace)) for name, fields in secrets.items())


def _yaml(fields: Mapping[str, Any], indent: str = "") -> str:
    # A JSON string is valid YAML, so neither a YAML library nor escaping rules are needed.
    lines = [
        f"{indent}{key}:\n{_yaml(value, indent + '  ')}"
        if isinstance(value, dict)
        else f"{indent}{key}: {orjson.dumps(value).decode()}\n"
        for key, value in fields.items()
    ]
    return "".join(lines)
