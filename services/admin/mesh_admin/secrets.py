"""`secrets`: generates every key and password of a mesh and writes dotenv files (Secrets: `kubernetes_secrets`).

Each service gets only what it needs: its own private key, its own database login, and the public keys of all services.
"""

import secrets as entropy
from dataclasses import dataclass
from pathlib import Path

import orjson
from mesh_common.grpc.edges import SERVICES
from mesh_common.jwt import new_private_key_pem, public_jwk

from mesh_admin.bootstrap_db import LOGIN_ROLES, SCHEMAS

_PASSWORD_BYTES = 24
_DATABASE = "mesh"
# The administrator role of the official PostgreSQL image.
_ADMIN = "postgres"


@dataclass(frozen=True, slots=True)
class SecretSet:
    """`signing_key` signs users' access tokens; `service_keys` are by service, `passwords` by role.

    `admin_password` is the database administrator's, for a database that is created with the mesh.
    """

    signing_key: str
    service_keys: dict[str, str]
    passwords: dict[str, str]
    redis_password: str
    admin_password: str

    def service_jwks(self) -> str:
        """The public keys of all services, each bound to its service's name."""
        keys = [service_jwk(service, pem) for service, pem in self.service_keys.items()]
        return orjson.dumps({"keys": keys}).decode()


def service_jwk(service: str, pem: str) -> dict[str, str]:
    """The public part of a service's key, bound to the service's name: it authenticates this service only."""
    return {**public_jwk(pem), "mesh_service": service}


def make_secrets() -> SecretSet:
    return SecretSet(
        signing_key=new_private_key_pem(),
        service_keys={service: new_private_key_pem() for service in SERVICES},
        passwords={role: new_password() for role in LOGIN_ROLES},
        redis_password=new_password(),
        admin_password=new_password(),
    )


def new_password() -> str:
    # Hexadecimal, because it is used in connection URLs and on command lines, where a leading `-` starts an option.
    return entropy.token_hex(_PASSWORD_BYTES)


def environment_of(secret_set: SecretSet, service: str, *, database: str, redis: str) -> dict[str, str]:
    """The secret variables of one service. `redis` is `host:port`, `database` the same or `host:port/name`."""
    prefix = service.upper()
    variables = {f"{prefix}_SERVICE_KEY": secret_set.service_keys[service]}
    if service in SCHEMAS:
        variables[f"{prefix}_DATABASE_URL"] = database_url(secret_set, f"{service}_login_a", database)
    if service == "gateway":
        variables["GATEWAY_REDIS_URL"] = f"redis://:{secret_set.redis_password}@{redis}/0"
    if service == "auth":
        variables["AUTH_SIGNING_KEY"] = secret_set.signing_key
    return variables


def owner_environment(secret_set: SecretSet, service: str, *, database: str) -> dict[str, str]:
    """The only variable that the `migrate` command of a service needs."""
    return {f"{service.upper()}_OWNER_DATABASE_URL": database_url(secret_set, f"{service}_owner", database)}


def bootstrap_environment(secret_set: SecretSet) -> dict[str, str]:
    """The passwords that `bootstrap-db` sets for the logins."""
    return {"BOOTSTRAP_DATABASE_PASSWORDS": orjson.dumps(secret_set.passwords).decode()}


def admin_environment(secret_set: SecretSet, *, database: str) -> dict[str, str]:
    """For a database created with the mesh: its image's password, and the URL with which `bootstrap-db` connects."""
    return {
        "POSTGRES_PASSWORD": secret_set.admin_password,
        "BOOTSTRAP_ADMIN_DATABASE_URL": _url(_ADMIN, secret_set.admin_password, database),
    }


def database_url(secret_set: SecretSet, role: str, database: str) -> str:
    return _url(role, secret_set.passwords[role], database)


def to_json(secret_set: SecretSet) -> str:
    return orjson.dumps(
        {
            "signing_key": secret_set.signing_key,
            "service_keys": secret_set.service_keys,
            "passwords": secret_set.passwords,
            "redis_password": secret_set.redis_password,
            "admin_password": secret_set.admin_password,
        }
    ).decode()


def from_json(text: str) -> SecretSet:
    fields = orjson.loads(text)
    return SecretSet(
        signing_key=fields["signing_key"],
        service_keys=fields["service_keys"],
        passwords=fields["passwords"],
        redis_password=fields["redis_password"],
        # A set stored by an earlier release has none, so no database was created with one.
        admin_password=fields.get("admin_password") or new_password(),
    )


def write_dotenv(secret_set: SecretSet, folder: Path, *, database: str, redis: str) -> None:
    """Writes `<service>.env`, `migrate.env`, `bootstrap.env`, `database-admin.env`, `redis.env`, `service-jwks.json`.

    Only the files' owner can read them.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for service in SERVICES:
        _write(folder / f"{service}.env", environment_of(secret_set, service, database=database, redis=redis))
    owners: dict[str, str] = {}
    for schema in SCHEMAS:
        owners |= owner_environment(secret_set, schema, database=database)
    _write(folder / "migrate.env", owners)
    _write(folder / "bootstrap.env", bootstrap_environment(secret_set))
    _write(folder / "database-admin.env", admin_environment(secret_set, database=database))
    _write(folder / "redis.env", {"REDIS_PASSWORD": secret_set.redis_password})
    write_private(folder / "service-jwks.json", secret_set.service_jwks())


def _write(path: Path, variables: dict[str, str]) -> None:
    lines = [f"{name}={_quoted(value)}" for name, value in variables.items()]
    write_private(path, "\n".join(lines) + "\n")


def write_private(path: Path, content: str) -> None:
    path.touch(mode=0o600, exist_ok=True)
    # `touch` does not change the mode of an existing file.
    path.chmod(0o600)
    path.write_text(content)


def _url(role: str, password: str, database: str) -> str:
    address, _, name = database.partition("/")
    return f"postgresql://{role}:{password}@{address}/{name or _DATABASE}"


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
