"""The mesh around one service under test: secrets, its database, calls signed as another service."""

from dataclasses import dataclass
from pathlib import Path

from mesh_admin.secrets import SecretSet
from mesh_common.database.migrate import migrate
from mesh_common.grpc.client import ServiceCalls
from mesh_common.grpc.edges import SERVICES, ServiceName
from mesh_common.grpc.service_tokens import ServiceTokenSigner
from mesh_common.jwt import SigningKey


@dataclass(frozen=True)
class TestMesh:
    """`database` is `host:port` of a bootstrapped PostgreSQL; `jwks_file` contains all services' public keys."""

    __test__ = False

    secrets: SecretSet
    jwks_file: Path
    database: str

    def database_url(self, service: str, login: str = "login_a") -> str:
        role = f"{service}_{login}"
        return f"postgresql://{role}:{self.secrets.passwords[role]}@{self.database}/mesh"

    def migrate(self, service: str, migrations: Path) -> None:
        """Migrates a service's schema. Call it from a thread, because it runs its own event loop."""
        migrate(self.database_url(service, "owner"), schema=service, migrations=migrations)

    def environment(self, service: ServiceName) -> dict[str, str]:
        """The variables that every service of the mesh needs, bound to loopback with free metrics ports."""
        prefix = service.upper()
        variables = {
            f"{prefix}_SERVICE_KEY": self.secrets.service_keys[service],
            f"{prefix}_SERVICE_JWKS_FILE": str(self.jwks_file),
            f"{prefix}_METRICS_HOST": "127.0.0.1",
            f"{prefix}_METRICS_PORT": "0",
        }
        if service != "gateway":
            variables[f"{prefix}_GRPC_HOST"] = "127.0.0.1"
            variables[f"{prefix}_DATABASE_URL"] = self.database_url(service)
        return variables

    def calls_as(self, caller: ServiceName, callee: ServiceName) -> ServiceCalls:
        """Calls to `callee` with `caller`'s own service token."""
        assert caller in SERVICES
        key = SigningKey.from_pem(self.secrets.service_keys[caller])
        return ServiceCalls(callee=callee, signer=ServiceTokenSigner(caller, key))
