"""The .env templates contain every variable that services read, and no secret."""

import re
from pathlib import Path

import pytest
from mesh_agent.settings import AgentSettings
from mesh_auth.settings import AuthSettings
from mesh_common.process.settings import MigrationSettings, ServiceSettings
from mesh_eval.settings import EvalSettings
from mesh_gateway.settings import GatewaySettings
from mesh_memory.settings import MemorySettings

_ROOT = Path(__file__).parents[3]
_SETTINGS: dict[str, type[ServiceSettings]] = {
    "agent": AgentSettings,
    "auth": AuthSettings,
    "eval": EvalSettings,
    "gateway": GatewaySettings,
    "memory": MemorySettings,
}
_TEMPLATES = [
    f"services/{service}/{name}"
    for service in _SETTINGS
    for name in (".env.example", ".env.development", ".env.production")
]
# A variable that is set, or one in a comment of the form `# NAME=value`.
_VARIABLE = re.compile(r"^(?:#\s*)?([A-Z][A-Z0-9_]*)=", re.MULTILINE)
_ASSIGNMENT = re.compile(r"^([A-Z][A-Z0-9_]*)=(.*)$", re.MULTILINE)


def variables_of(settings: type[ServiceSettings]) -> set[str]:
    prefix = settings.model_config.get("env_prefix", "")
    return {
        str(field.validation_alias) if field.validation_alias else f"{prefix}{name}".upper()
        for name, field in settings.model_fields.items()
    }


def migration_variables(service: str) -> set[str]:
    """The variables that the command `migrate` reads."""
    return {f"{service}_{name}".upper() for name in MigrationSettings.model_fields}


@pytest.mark.parametrize("service", sorted(_SETTINGS))
def test_service_template_names_every_setting_and_no_other(service: str) -> None:
    template = (_ROOT / "services" / service / ".env.example").read_text()

    named = set(_VARIABLE.findall(template))

    assert named - migration_variables(service) == variables_of(_SETTINGS[service])
    assert service == "gateway" or migration_variables(service) <= named


@pytest.mark.parametrize("template", _TEMPLATES)
def test_template_sets_only_what_its_service_reads(template: str) -> None:
    service = template.split("/")[1]
    known = variables_of(_SETTINGS[service]) | migration_variables(service)

    named = {name for name, _ in _ASSIGNMENT.findall((_ROOT / template).read_text())}

    assert named <= known


@pytest.mark.parametrize("template", _TEMPLATES)
def test_template_holds_no_secret(template: str) -> None:
    assignments = _ASSIGNMENT.findall((_ROOT / template).read_text())

    secret = [(name, value) for name, value in assignments if re.search(r"KEY$|PASSWORD|DATABASE_URL", name) and value]

    assert secret == []
