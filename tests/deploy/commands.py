"""The commands of the chart's containers, and the settings that each command reads."""

from collections.abc import Mapping
from typing import Final

from mesh_admin.bootstrap_db import BootstrapSettings
from mesh_admin.kubernetes_api import KubernetesSettings
from mesh_agent.settings import AgentMigrationSettings, AgentSettings
from mesh_auth.settings import AuthMigrationSettings, AuthSettings
from mesh_common.process.settings import EnvironmentSettings, ServiceSettings
from mesh_eval.settings import EvalMigrationSettings, EvalSettings
from mesh_gateway.settings import GatewaySettings
from mesh_memory.settings import MemoryMigrationSettings, MemorySettings

from deploy.manifests import Object

type Command = tuple[str, str]

SERVICE_SETTINGS: Final[Mapping[str, type[ServiceSettings]]] = {
    "gateway": GatewaySettings,
    "auth": AuthSettings,
    "agent": AgentSettings,
    "memory": MemorySettings,
    "eval": EvalSettings,
}
SETTINGS: Final[Mapping[Command, type[EnvironmentSettings]]] = {
    **{(f"mesh_{service}", "serve"): settings for service, settings in SERVICE_SETTINGS.items()},
    ("mesh_auth", "migrate"): AuthMigrationSettings,
    ("mesh_agent", "migrate"): AgentMigrationSettings,
    ("mesh_memory", "migrate"): MemoryMigrationSettings,
    ("mesh_eval", "migrate"): EvalMigrationSettings,
    ("mesh_admin", "bootstrap-db"): BootstrapSettings,
    ("mesh_admin", "secrets"): KubernetesSettings,
}


def command_of(container: Object) -> Command | None:
    """(module, command) of `python -m module command …`; None for a script."""
    arguments = container.get("args", [])
    return (arguments[1], arguments[2]) if arguments[:1] == ["-m"] else None


def variables_of(settings: type[EnvironmentSettings]) -> dict[str, bool]:
    """Every variable that is read, and whether it is required."""
    prefix = settings.model_config.get("env_prefix", "")
    return {
        str(field.validation_alias or f"{prefix}{name}".upper()): field.is_required()
        for name, field in settings.model_fields.items()
    }
