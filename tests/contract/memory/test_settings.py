"""The settings: the template contains all of them, and faults are reported by name."""

import re
from pathlib import Path

import mesh_memory
import pytest
from mesh_common.process.settings import load_settings
from mesh_memory.settings import MemoryMigrationSettings, MemorySettings

TEMPLATE = Path(mesh_memory.__file__).parent.parent / ".env.example"


def _variables(settings_class: type[MemorySettings | MemoryMigrationSettings]) -> set[str]:
    return {
        str(field.validation_alias or f"MEMORY_{name}".upper()) for name, field in settings_class.model_fields.items()
    }


def test_the_template_names_every_setting_and_nothing_else() -> None:
    named = set(re.findall(r"^#? ?([A-Z][A-Z_]+)=", TEMPLATE.read_text(), re.MULTILINE))

    assert named == _variables(MemorySettings) | _variables(MemoryMigrationSettings)


def test_every_fault_is_reported_at_once_by_the_name_of_its_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MEMORY_EMBEDDING_BASE_URL", "embeddings:80")
    monkeypatch.setenv("MEMORY_EXTRACTION_TRIES", "none")

    with pytest.raises(SystemExit) as exited:
        load_settings(MemorySettings)

    faults = capsys.readouterr().err
    assert exited.value.code == 2
    for variable in (
        "MEMORY_EMBEDDING_BASE_URL",
        "MEMORY_EXTRACTION_TRIES",
        "MEMORY_SERVICE_KEY",
        "MEMORY_DATABASE_URL",
    ):
        assert variable in faults
