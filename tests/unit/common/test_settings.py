from pathlib import Path

import pytest
from mesh_common.secrets import SecretSet, make_secrets
from mesh_common.settings import GrpcSettings, load_settings, settings_config
from pydantic import Field


class SomeSettings(GrpcSettings):
    model_config = settings_config("SOME_")

    answer: int = Field(ge=42, le=42)


@pytest.fixture(scope="module")
def secrets() -> SecretSet:
    return make_secrets()


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, secrets: SecretSet) -> pytest.MonkeyPatch:
    """A complete one."""
    (tmp_path / "keys.json").write_text(secrets.service_jwks())
    for name, value in {
        "SERVICE_KEY": secrets.service_keys["eval"],
        "SERVICE_JWKS_FILE": str(tmp_path / "keys.json"),
        "DATABASE_URL": "postgresql://a:b@c/d",
        "ANSWER": "42",
    }.items():
        monkeypatch.setenv(f"SOME_{name}", value)
    return monkeypatch


def test_settings_come_from_the_environment_by_their_prefix(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("SOME_GRPC_PORT", "7")
    environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317")

    settings = load_settings(SomeSettings)

    assert (settings.grpc_port, settings.answer, settings.otlp_endpoint) == (7, 42, "http://collector:4317")
    assert len(settings.service_keys()) == 5


def test_an_empty_variable_is_none(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("SOME_GRPC_PORT", "")

    assert load_settings(SomeSettings).grpc_port == 50051


def test_every_fault_is_reported_at_once_by_the_name_of_its_variable(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.delenv("SOME_DATABASE_URL")
    environment.setenv("SOME_ANSWER", "41")
    environment.setenv("SOME_GRPC_PORT", "70000")
    environment.setenv("SOME_SERVICE_KEY", "-----BEGIN secret-----")
    environment.setenv("SOME_SERVICE_JWKS_FILE", "/does/not/exist")
    environment.setenv("SOME_LOG_LEVEL", "LOUD")

    with pytest.raises(SystemExit) as exit_code:
        load_settings(SomeSettings)

    lines = capsys.readouterr().err.splitlines()
    assert exit_code.value.code == 2
    assert sorted(line.partition(":")[0] for line in lines) == [
        "SOME_ANSWER",
        "SOME_DATABASE_URL",
        "SOME_GRPC_PORT",
        "SOME_LOG_LEVEL",
        "SOME_SERVICE_JWKS_FILE",
        "SOME_SERVICE_KEY",
    ]
    assert "secret" not in "".join(lines)


@pytest.mark.usefixtures("environment")
def test_secrets_do_not_show_when_settings_are_printed() -> None:
    settings = load_settings(SomeSettings)

    assert "PRIVATE KEY" not in repr(settings)
    assert "a:b" not in repr(settings)
