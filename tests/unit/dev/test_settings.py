from pathlib import Path

import pytest
from mesh_dev.settings import DevSettings
from pydantic import ValidationError


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MESH_PORT_BASE", "MESH_DATA_DIR", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def test_without_any_setting_the_stack_is_at_8000_and_embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    settings = DevSettings()

    assert settings.port_base == 8000
    assert settings.data_dir == tmp_path / ".mesh"
    assert settings.openai_api_key is None


def test_openai_is_set_by_the_names_of_its_own_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-a-person")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")

    settings = DevSettings()

    assert settings.openai_api_key is not None
    assert settings.openai_api_key.get_secret_value() == "sk-of-a-person"
    assert str(settings.openai_base_url) == "http://127.0.0.1:1/v1"
    assert "sk-of-a-person" not in repr(settings)


def test_empty_key_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "")

    assert DevSettings().openai_api_key is None


@pytest.mark.parametrize("base", ["80", "65500", "eight"])
def test_base_without_room_above_is_refused(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_PORT_BASE", base)

    with pytest.raises(ValidationError, match="port_base"):
        DevSettings()
