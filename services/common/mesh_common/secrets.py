"""`secrets`: every key and password of a mesh in one go, as dotenv files or as Kubernetes Secrets.

Each service gets just what it needs: its own private key, its own database login; the public keys of all.
"""

import secrets as entropy
from dataclasses import dataclass
from pathlib import Path

import orjson

from mesh_common.bootstrap_db import SCHEMAS
from mesh_common.edges import SERVICES
from mesh_common.jwt import new_private_key_pem, public_jwk

_PASSWORD_BYTES = 24
_LOGINS = ("owner", "login_a", "login_b")


@dataclass(frozen=True, slots=True)
class SecretSet:
    """`signing_key` signs users' access tokens; `service_keys` and `passwords` go by service and by role."""

    signing_key: str
    service_keys: dict[str, str]
    passwords: dict[str, str]
    redis_password: str

    def service_jwks(self) -> str:
        """The public keys of all services, each bound to its service's name."""
        keys = [{**public_jwk(pem), "mesh_service": service} for service, pem in self.service_keys.items()]
        return orjson.dumps({"keys": keys}).decode()


def make_secrets() -> SecretSet:
    return SecretSet(
        signing_key=new_private_key_pem(),
        service_keys={service: new_private_key_pem() for service in SERVICES},
        passwords={f"{schema}_{login}": _password() for schema in SCHEMAS for login in _LOGINS},
        redis_password=_password(),
    )


def environment_of(secret_set: SecretSet, service: str, *, database: str, redis: str) -> dict[str, str]:
    """The secret variables of one service. `database` and `redis` are `host:port`."""
    prefix = service.upper()
    variables = {f"{prefix}_SERVICE_KEY": secret_set.service_keys[service]}
    if service in SCHEMAS:
        password = secret_set.passwords[f"{service}_login_a"]
        variables[f"{prefix}_DATABASE_URL"] = f"postgresql://{service}_login_a:{password}@{database}/mesh"
    if service == "gateway":
        variables["GATEWAY_REDIS_URL"] = f"redis://:{secret_set.redis_password}@{redis}/0"
    if service == "auth":
        variables["AUTH_SIGNING_KEY"] = secret_set.signing_key
    return variables


def owner_environment(secret_set: SecretSet, service: str, *, database: str) -> dict[str, str]:
    """What the `migrate` command of a service needs besides nothing."""
    password = secret_set.passwords[f"{service}_owner"]
    return {f"{service.upper()}_OWNER_DATABASE_URL": f"postgresql://{service}_owner:{password}@{database}/mesh"}


def to_json(secret_set: SecretSet) -> str:
    return orjson.dumps(
        {
            "signing_key": secret_set.signing_key,
            "service_keys": secret_set.service_keys,
            "passwords": secret_set.passwords,
            "redis_password": secret_set.redis_password,
        }
    ).decode()


def from_json(text: str) -> SecretSet:
    fields = orjson.loads(text)
    return SecretSet(fields["signing_key"], fields["service_keys"], fields["passwords"], fields["redis_password"])


def write_dotenv(secret_set: SecretSet, folder: Path, *, database: str, redis: str) -> None:
    """Writes `<service>.env`, `migrate.env`, `bootstrap.env`, `redis.env` and `service-jwks.json`.

    Only the owner can read them.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for service in SERVICES:
        _write(folder / f"{service}.env", environment_of(secret_set, service, database=database, redis=redis))
    owners: dict[str, str] = {}
    for schema in SCHEMAS:
        owners |= owner_environment(secret_set, schema, database=database)
    _write(folder / "migrate.env", owners)
    _write(folder / "bootstrap.env", {"BOOTSTRAP_DATABASE_PASSWORDS": orjson.dumps(secret_set.passwords).decode()})
    _write(folder / "redis.env", {"REDIS_PASSWORD": secret_set.redis_password})
    _write_private(folder / "service-jwks.json", secret_set.service_jwks())


def kubernetes_secrets(secret_set: SecretSet, *, database: str, redis: str) -> str:
    """YAML of one Secret per service, one for migrations, one for bootstrap, one for Redis, and the public keys."""
    documents = {
        f"mesh-{service}": environment_of(secret_set, service, database=database, redis=redis) for service in SERVICES
    }
    for schema in SCHEMAS:
        documents[f"mesh-{schema}-migrate"] = owner_environment(secret_set, schema, database=database)
    documents["mesh-bootstrap"] = {"BOOTSTRAP_DATABASE_PASSWORDS": orjson.dumps(secret_set.passwords).decode()}
    documents["mesh-redis"] = {"REDIS_PASSWORD": secret_set.redis_password}
    documents["mesh-service-keys"] = {"service-jwks.json": secret_set.service_jwks()}
    return "---\n".join(_secret_yaml(name, fields) for name, fields in documents.items())


def _secret_yaml(name: str, fields: dict[str, str]) -> str:
    # JSON is YAML; a quoted JSON string needs no YAML library and no escaping rules of our own.
    lines = [f"  {key}: {orjson.dumps(value).decode()}" for key, value in fields.items()]
    head = f"apiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\ntype: Opaque\nstringData:\n"
    return head + "\n".join(lines) + "\n"


def _write(path: Path, variables: dict[str, str]) -> None:
    lines = [f"{name}={_quoted(value)}" for name, value in variables.items()]
    _write_private(path, "\n".join(lines) + "\n")


def _write_private(path: Path, content: str) -> None:
    path.touch(mode=0o600, exist_ok=True)
    # One that was there before keeps its mode.
    path.chmod(0o600)
    path.write_text(content)


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _password() -> str:
    # URL-safe on purpose: it stands in connection URLs.
    return entropy.token_urlsafe(_PASSWORD_BYTES)
