"""A service checks the three files of mutual TLS when it starts."""

from pathlib import Path

import pytest
from mesh_admin.secrets import SecretSet, make_secrets
from mesh_common.process.settings import GrpcSettings, load_settings, settings_config
from mesh_common.process.tls_files import ChannelTls, TlsFiles
from support.certificates import new_authority


class SomeSettings(GrpcSettings):
    model_config = settings_config("SOME_")


@pytest.fixture(scope="module")
def secrets() -> SecretSet:
    return make_secrets()


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    return new_authority().issue(tmp_path / "tls", "some")


@pytest.fixture
def environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, secrets: SecretSet, files: TlsFiles
) -> pytest.MonkeyPatch:
    """Every variable that the settings require, with TLS."""
    (tmp_path / "keys.json").write_text(secrets.service_jwks())
    for name, value in {
        "SERVICE_KEY": secrets.service_keys["eval"],
        "SERVICE_JWKS_FILE": tmp_path / "keys.json",
        "DATABASE_URL": "postgresql://a:b@c/d",
        "GRPC_TLS_CERT_FILE": files.certificate,
        "GRPC_TLS_KEY_FILE": files.key,
        "GRPC_TLS_CA_FILE": files.authorities,
    }.items():
        monkeypatch.setenv(f"SOME_{name}", str(value))
    return monkeypatch


@pytest.mark.usefixtures("environment")
def test_three_files_are_tls(files: TlsFiles) -> None:
    settings = load_settings(SomeSettings)

    assert settings.tls_files() == files
    assert settings.tls_to("memory") == ChannelTls(files, "memory")


def test_no_file_is_no_tls(environment: pytest.MonkeyPatch) -> None:
    for name in ("CERT", "KEY", "CA"):
        environment.delenv(f"SOME_GRPC_TLS_{name}_FILE")

    settings = load_settings(SomeSettings)

    assert settings.tls_files() is None
    assert settings.tls_to("memory") is None


@pytest.mark.parametrize("missing", [("CERT",), ("KEY",), ("CA",), ("CERT", "KEY"), ("KEY", "CA")])
def test_some_of_the_files_are_a_fault_along_with_all_others(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: tuple[str, ...]
) -> None:
    for name in missing:
        environment.delenv(f"SOME_GRPC_TLS_{name}_FILE")
    environment.delenv("SOME_SERVICE_KEY")

    assert faults(capsys) == [
        "SOME_SERVICE_KEY: is required",
        "SOME_GRPC_TLS_CA_FILE: certificate, key and CA file of gRPC's TLS belong together: set all three or none",
    ]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("CERT", b"hush", "holds no certificate in PEM"),
        ("CERT", None, "cannot be read: No such file or directory"),
        ("KEY", b"hush", "holds no unencrypted private key in PEM"),
        ("KEY", None, "cannot be read: No such file or directory"),
        ("CA", b"hush", "holds no certificate in PEM"),
        ("CA", None, "cannot be read: No such file or directory"),
    ],
)
@pytest.mark.usefixtures("environment")
def test_file_that_is_of_no_use_is_a_fault(
    files: TlsFiles, capsys: pytest.CaptureFixture[str], name: str, content: bytes | None, sentence: str
) -> None:
    path = {"CERT": files.certificate, "KEY": files.key, "CA": files.authorities}[name]
    path.unlink()
    if content is not None:
        path.write_bytes(content)

    reported = faults(capsys)

    assert f"SOME_GRPC_TLS_{name}_FILE: {sentence}" in reported
    assert "hush" not in str(reported)


@pytest.mark.usefixtures("environment")
def test_key_of_another_certificate_is_a_fault(
    files: TlsFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = new_authority().issue(tmp_path / "other", "some")
    files.key.write_bytes(other.key.read_bytes())

    assert faults(capsys) == ["SOME_GRPC_TLS_KEY_FILE: is not the key of the certificate"]


def test_health_has_another_port_than_grpc(environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    environment.setenv("SOME_GRPC_HEALTH_PORT", "50051")

    assert faults(capsys) == ["SOME_GRPC_HEALTH_PORT: must differ from the gRPC port"]


def faults(capsys: pytest.CaptureFixture[str]) -> list[str]:
    with pytest.raises(SystemExit) as ended:
        load_settings(SomeSettings)
    assert ended.value.code == 2
    return capsys.readouterr().err.splitlines()
