"""The environment of every program of a stack, as a pure function of ports, secrets and choices."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from mesh_admin.bootstrap_db import SCHEMAS
from mesh_admin.secrets import SecretSet, environment_of, owner_environment
from mesh_common.grpc.edges import ServiceName

from mesh_dev.models import ModelChoice
from mesh_dev.ports import PortPlan, ServicePorts
from mesh_dev.wait import LOOPBACK

# After Ctrl-C, the longest wait for active answers.
DRAIN_S = 5
# More than the 300 ms of production, because here a model runs on the same machine.
RECALL_TIMEOUT_S = 2
# In the repository, from which the stack is started.
_ASSISTANTS = Path("assistants")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceEnvironments:
    """The variables of each service and of each step before it. `extra` takes precedence."""

    ports: PortPlan
    secrets: SecretSet
    jwks_file: Path
    models: ModelChoice
    redis_url: str
    has_traces: bool
    extra: Mapping[ServiceName, Mapping[str, str]] = field(default_factory=dict)
    replicas: Mapping[ServiceName, int] = field(default_factory=dict)
    """Number of replicas per service; one by default."""

    def of(self, service: ServiceName, replica: int = 0) -> dict[str, str]:
        return self._common(service, replica) | self._own(service, replica) | dict(self.extra.get(service, {}))

    def of_bootstrap(self, admin_url: str) -> dict[str, str]:
        """For `mesh_admin bootstrap-db`. `admin_url` is that of the database to prepare."""
        passwords = orjson.dumps(self.secrets.passwords).decode()
        return {"BOOTSTRAP_ADMIN_DATABASE_URL": admin_url, "BOOTSTRAP_DATABASE_PASSWORDS": passwords}

    def of_migration(self, service: str) -> dict[str, str]:
        return owner_environment(self.secrets, service, database=self._database)

    def ports_of(self, service: ServiceName, replica: int = 0) -> ServicePorts:
        return self.ports.of(service, replica)

    def replica_numbers(self, service: ServiceName) -> range:
        """From 0."""
        return range(self.replicas.get(service, 1))

    @property
    def _database(self) -> str:
        return f"{LOOPBACK}:{self.ports.postgres}"

    def _common(self, service: ServiceName, replica: int) -> dict[str, str]:
        prefix = service.upper()
        redis = f"{LOOPBACK}:{self.ports.valkey}"
        variables = environment_of(self.secrets, service, database=self._database, redis=redis) | {
            f"{prefix}_SERVICE_JWKS_FILE": str(self.jwks_file),
            f"{prefix}_METRICS_HOST": LOOPBACK,
            f"{prefix}_METRICS_PORT": str(self.ports_of(service, replica).metrics),
            f"{prefix}_TRACE_SAMPLE_RATIO": "1.0",
            f"{prefix}_DRAIN_S": str(DRAIN_S),
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{LOOPBACK}:{self.ports.otlp}" if self.has_traces else "",
        }
        if service in SCHEMAS:
            variables[f"{prefix}_GRPC_HOST"] = LOOPBACK
            variables[f"{prefix}_GRPC_PORT"] = str(self.ports_of(service, replica).api)
        return variables

    def _own(self, service: ServiceName, replica: int) -> dict[str, str]:
        match service:
            case "gateway":
                return self._gateway(replica)
            case "agent":
                targets = self._targets("AGENT", ("auth", "memory", "eval"))
                choices = {"AGENT_EVAL_SAMPLE_RATIO": "1.0", "AGENT_RECALL_TIMEOUT_S": str(RECALL_TIMEOUT_S)}
                if _ASSISTANTS.is_dir():
                    choices["AGENT_ASSISTANTS_DIR"] = str(_ASSISTANTS.absolute())
                return self.models.agent_environment() | targets | choices
            case "memory":
                return self.models.memory_environment() | {"MEMORY_RECALL_TIMEOUT_S": str(RECALL_TIMEOUT_S)}
            case "eval":
                return self.models.eval_environment()
            case "auth":
                return {}

    def _gateway(self, replica: int) -> dict[str, str]:
        return self._targets("GATEWAY", ("auth", "agent", "memory", "eval")) | {
            "GATEWAY_HTTP_HOST": LOOPBACK,
            "GATEWAY_HTTP_PORT": str(self.ports_of("gateway", replica).api),
            # The embedded Valkey has its own password.
            "GATEWAY_REDIS_URL": self.redis_url,
        }

    def _targets(self, prefix: str, callees: tuple[ServiceName, ...]) -> dict[str, str]:
        return {f"{prefix}_{callee.upper()}_TARGET": self._target(callee) for callee in callees}

    def _target(self, callee: ServiceName) -> str:
        addresses = (f"{LOOPBACK}:{self.ports_of(callee, number).api}" for number in self.replica_numbers(callee))
        return f"ipv4:{','.join(addresses)}"
