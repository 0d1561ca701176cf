"""Which settings are rejected, and that the template names them all."""

from pathlib import Path

import pytest
from mesh_admin.secrets import make_secrets
from mesh_auth.settings import AuthSettings
from mesh_common.jwt import new_private_key_pem
from mesh_common.process.settings import load_settings

TEMPLATE = Path(__file__).parents[3] / "services" / "auth" / ".env.example"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """The required variables only."""
    secret_set = make_secrets()
    jwks_file = tmp_path / "jwks.json"
    jwks_file.write_text(secret_set.service_jwks())
    monkeypatch.setenv("AUTH_SERVICE_KEY", secret_set.service_keys["auth"])
    monkeypatch.setenv("AUTH_SERVICE_JWKS_FILE", str(jwks_file))
    monkeypatch.setenv("AUTH_DATABASE_URL", "postgresql://auth_login_a:x@localhost/mesh")
    monkeypatch.setenv("AUTH_SIGNING_KEY", secret_set.signing_key)
    return monkeypatch


@pytest.mark.usefixtures("environment")
def test_defaults_are_those_of_the_issue() -> None:
    settings = load_settings(AuthSettings)

    assert settings.access_token_ttl_s == 15 * 60
    assert settings.refresh_token_ttl_s == 30 * 24 * 3600
    assert settings.session_max_age_s == 90 * 24 * 3600
    assert settings.registration_open
    assert settings.hash_workers >= 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AUTH_SIGNING_KEY", ""),
        ("AUTH_SIGNING_KEY", "not a key"),
        ("AUTH_NEXT_SIGNING_KEY", "not a key"),
        ("AUTH_ACCESS_TOKEN_TTL_S", "0"),
        ("AUTH_HASH_WORKERS", "0"),
        ("AUTH_DEFAULT_MODELS", "not json"),
    ],
)
def test_bad_setting_is_named_and_ends_the_process(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    environment.setenv(name, value)

    with pytest.raises((SystemExit, ValueError)) as caught:
        load_settings(AuthSettings)

    shown = capsys.readouterr().err + str(caught.value)
    assert name.lower().removeprefix("auth_") in shown.lower()


def test_refresh_tokens_must_outlive_access_tokens(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("AUTH_REFRESH_TOKEN_TTL_S", "600")

    with pytest.raises(SystemExit):
        load_settings(AuthSettings)

    assert "AUTH_REFRESH_TOKEN_TTL_S" in capsys.readouterr().err


def test_sessions_must_not_be_shorter_than_access_tokens(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("AUTH_SESSION_MAX_AGE_S", "600")

    with pytest.raises(SystemExit):
        load_settings(AuthSettings)

    assert "AUTH_SESSION_MAX_AGE_S" in capsys.readouterr().err


def test_secrets_are_not_shown(environment: pytest.MonkeyPatch) -> None:
    pem = new_private_key_pem()
    environment.setenv("AUTH_NEXT_SIGNING_KEY", pem)

    assert "PRIVATE KEY" not in repr(load_settings(AuthSettings))


def test_template_names_every_setting() -> None:
    named = {line.lstrip("# ").partition("=")[0] for line in TEMPLATE.read_text().splitlines() if "=" in line}
    expected = {
        str(field.validation_alias or f"AUTH_{name.upper()}") for name, field in AuthSettings.model_fields.items()
    }

    assert named == expected | {"AUTH_OWNER_DATABASE_URL", "AUTH_MIGRATION_TIMEOUT_S"}


@pytest.mark.parametrize("name", [".env.development", ".env.production"])
def test_templates_hold_settings_that_are_taken(environment: pytest.MonkeyPatch, name: str) -> None:
    for line in TEMPLATE.with_name(name).read_text().splitlines():
        variable, separator, value = line.partition("=")
        if separator and not line.startswith("#"):
            assert variable == "OTEL_EXPORTER_OTLP_ENDPOINT" or variable.removeprefix("AUTH_").lower() in set(
                AuthSettings.model_fields
            )
            environment.setenv(variable, value)

    assert load_settings(AuthSettings).trace_sample_ratio > 0
