"""Settings: the template names every one, and errors name the invalid one."""

import re
from pathlib import Path

import mesh_agent
import pytest
from mesh_agent.settings import AgentMigrationSettings, AgentSettings
from mesh_common.process.settings import load_settings

TEMPLATE = Path(mesh_agent.__file__).parent.parent / ".env.example"


def _variables(settings_class: type[AgentSettings | AgentMigrationSettings]) -> set[str]:
    return {
        str(field.validation_alias or f"AGENT_{name}".upper()) for name, field in settings_class.model_fields.items()
    }


def test_the_template_names_every_setting_and_nothing_else() -> None:
    named = set(re.findall(r"^#? ?([A-Z][A-Z_]+)=", TEMPLATE.read_text(), re.MULTILINE))

    assert named == _variables(AgentSettings) | _variables(AgentMigrationSettings)


def test_every_fault_is_told_at_once_by_the_name_of_its_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = '{"name": "m", "provider_model": "m", "context_tokens": 8000}'
    monkeypatch.setenv("AGENT_MODELS", f"[{model}, {model}]")
    monkeypatch.setenv("AGENT_LEASE_TTL_S", "0")

    with pytest.raises(SystemExit) as exited:
        load_settings(AgentSettings)

    faults = capsys.readouterr().err
    assert exited.value.code == 2
    for variable in ("AGENT_MODELS", "AGENT_LEASE_TTL_S", "AGENT_SERVICE_KEY", "AGENT_DATABASE_URL"):
        assert variable in faults
