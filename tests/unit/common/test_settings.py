from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from mesh_admin.bootstrap_db import BootstrapSettings
from mesh_admin.secrets import SecretSet, make_secrets
from mesh_common.process.settings import GrpcSettings, load_settings, settings_config
from pydantic import BaseModel, Field, model_validator
from pydantic_settings import BaseSettings


class Part(BaseModel, frozen=True):
    name: str


class SomeSettings(GrpcSettings):
    model_config = settings_config("SOME_")

    answer: int = Field(ge=42, le=42)
    names: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    numbers: dict[str, int] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_room(self) -> "SomeSettings":
        if self.grpc_port == self.metrics_port:
            raise ValueError("SOME_GRPC_PORT and SOME_METRICS_PORT must differ")
        return self


@pytest.fixture(scope="module")
def secrets() -> SecretSet:
    return make_secrets()


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, secrets: SecretSet) -> pytest.MonkeyPatch:
    """Every variable that the settings require."""
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


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("NAMES", "hush, hush", "SOME_NAMES: must be a JSON list"),
        ("NAMES", '{"hush": 1}', "SOME_NAMES: must be a JSON list"),
        ("NAMES", '["hush"', "SOME_NAMES: must be a JSON list"),
        ("NAMES", "[" * 100_000, "SOME_NAMES: must be a JSON list"),
        ("NAMES", '["hush", 1]', "SOME_NAMES.1: Input should be a valid string"),
        ("PARTS", '["hush"]', "SOME_PARTS.0: must be a JSON object"),
        ("PARTS", '[{"name": "a"}, {"hush": "a"}]', "SOME_PARTS.1.name: is required"),
        ("NUMBERS", "hush", "SOME_NUMBERS: must be a JSON object"),
        ("DATABASE_URL", "mysql://a:hush@h/d", "SOME_DATABASE_URL: must start with postgresql:// and be a URL; "),
        ("DATABASE_URL", "postgresql://a:hush@h", "SOME_DATABASE_URL: must be postgresql://user:password@host:5432/"),
        ("DATABASE_URL", "postgresql://h/d", "SOME_DATABASE_URL: must be postgresql://user:password@host:5432/"),
        ("DATABASE_URL", "postgresql://a:hush#1@h/d", "SOME_DATABASE_URL: is not a URL; characters such as / ? # ["),
        ("DATABASE_URL", "postgresql://a:12#hush@h/d", "SOME_DATABASE_URL: must start with postgresql:// and be a URL"),
        ("DATABASE_URL", "postgresql://a:[hush@h/d", "SOME_DATABASE_URL: is not a URL; "),
        ("METRICS_PORT", "50051", "SOME_GRPC_PORT and SOME_METRICS_PORT must differ"),
    ],
)
def test_fault_is_one_line_that_does_not_repeat_the_value(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, value: str, line: str
) -> None:
    environment.setenv(f"SOME_{variable}", value)

    [reported] = faults_of(SomeSettings, capsys)

    assert reported.startswith(line)
    assert "hush" not in reported


def test_json_that_cannot_be_read_hides_no_other_fault(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("SOME_NAMES", "a, b")
    environment.setenv("SOME_PARTS", "a, b")
    environment.delenv("SOME_ANSWER")

    assert faults_of(SomeSettings, capsys) == [
        "SOME_ANSWER: is required",
        "SOME_NAMES: must be a JSON list",
        "SOME_PARTS: must be a JSON list",
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"{", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b"[]", "is not a JWKS document"),
        (b'{"keys": [{"kty": "RSA"}]}', "contains something other than public EC P-256 keys with a kid"),
    ],
)
def test_file_of_public_keys_is_looked_into(
    environment: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: bytes,
    sentence: str,
) -> None:
    (tmp_path / "other.json").write_bytes(content)
    environment.setenv("SOME_SERVICE_JWKS_FILE", str(tmp_path / "other.json"))

    assert faults_of(SomeSettings, capsys) == [f"SOME_SERVICE_JWKS_FILE: {sentence}"]


def test_key_that_needs_a_password_is_a_fault(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], secrets: SecretSet
) -> None:
    key = serialization.load_pem_private_key(secrets.service_keys["eval"].encode(), password=None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"password"),
    )
    environment.setenv("SOME_SERVICE_KEY", encrypted.decode())

    assert faults_of(SomeSettings, capsys) == ["SOME_SERVICE_KEY: is not an unencrypted private key in PEM"]


@pytest.mark.parametrize(
    ("passwords", "sentence"),
    [
        ("hush", "must be a JSON object"),
        ('["hush"]', "must be a JSON object"),
        ('{"hush": "auth_owner"}', "must map roles to passwords; roles are auth_owner, auth_login_a, auth_login_b, "),
        ('{"auth_owner": ["hush"]}', "must map roles to passwords; roles are auth_owner, "),
        ("{}", "Dictionary should have at least 1 item after validation, not 0"),
    ],
)
def test_passwords_are_of_logins_and_never_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], passwords: str, sentence: str
) -> None:
    monkeypatch.setenv("BOOTSTRAP_ADMIN_DATABASE_URL", "postgresql://admin:pw@db/mesh")
    monkeypatch.setenv("BOOTSTRAP_DATABASE_PASSWORDS", passwords)

    [reported] = faults_of(BootstrapSettings, capsys)

    assert reported.startswith(f"BOOTSTRAP_DATABASE_PASSWORDS: {sentence}")
    assert "hush" not in reported


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://a:b@h:5432/d",
        "postgres://a:b%23%2F@h/d?sslmode=require",
        "postgresql://a:b@[::1]:5432/d",
        "postgresql://a:b@/d?host=/run/postgresql",
    ],
)
def test_urls_that_postgresql_takes_are_taken(environment: pytest.MonkeyPatch, url: str) -> None:
    environment.setenv("SOME_DATABASE_URL", url)

    assert load_settings(SomeSettings).database_url.get_secret_value() == url


def faults_of(settings_class: type[BaseSettings], capsys: pytest.CaptureFixture[str]) -> list[str]:
    with pytest.raises(SystemExit) as ended:
        load_settings(settings_class)
    assert ended.value.code == 2
    return capsys.readouterr().err.splitlines()
