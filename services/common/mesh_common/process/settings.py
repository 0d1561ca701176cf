"""Settings: one frozen class per service, read from the environment. All faults are reported together."""

import sys
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from mesh_common.jwt import parse_jwks
from mesh_common.process import setting_checks
from mesh_common.process.setting_faults import fault_lines
from mesh_common.process.tls_files import ChannelTls, TlsFiles, certificates_of, read_file, require_key_of

Port = Annotated[int, Field(ge=0, le=65_535)]
Ratio = Annotated[float, Field(ge=0.0, le=1.0)]
Seconds = Annotated[float, Field(gt=0.0, le=3_600.0)]
PrivateKey = Annotated[SecretStr, AfterValidator(setting_checks.signing_key)]
DatabaseUrl = Annotated[SecretStr, AfterValidator(setting_checks.database_url)]
RedisUrl = Annotated[SecretStr, AfterValidator(setting_checks.redis_url)]
JwksFile = Annotated[Path, AfterValidator(setting_checks.jwks_file)]


def settings_config(prefix: str) -> SettingsConfigDict:
    return SettingsConfigDict(frozen=True, extra="ignore", env_prefix=prefix, env_ignore_empty=True)


class _Environment(EnvSettingsSource):
    """Leaves invalid JSON to validation; raising here for the first such variable would hide all other faults."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except (ValueError, RecursionError):
            return value


class EnvironmentSettings(BaseSettings):
    """Settings read only from the environment."""

    model_config = settings_config("")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings passes them by name
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the same
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the same
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, _Environment(settings_cls)


class ServiceSettings(EnvironmentSettings):
    """Settings of every service. Subclasses set their prefix: `model_config = settings_config("MEMORY_")`."""

    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    """Lowest level that is logged."""
    metrics_host: str = "0.0.0.0"  # noqa: S104 - a pod's only address
    """Listen address of /metrics; internal, never behind the ingress."""
    metrics_port: Port = 9464
    """Port of /metrics; 0 picks a free port."""
    otlp_endpoint: str | None = Field(default=None, validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT")
    """OTLP/gRPC collector, e.g. `http://collector:4317`. Without a collector nothing is traced."""
    trace_sample_ratio: Ratio = 0.05
    """Fraction of new traces that is recorded. The sampling decision of a caller takes precedence."""
    service_key: PrivateKey
    """PEM of the EC P-256 private key that signs this service's tokens (`make secrets`)."""
    service_jwks_file: JwksFile
    """File with the public keys of all services, in the form that `make secrets` writes."""
    grpc_tls_cert_file: Path | None = None
    """PEM of this service's certificate and its chain. If this and the next two are set, gRPC uses mutual TLS."""
    grpc_tls_key_file: Path | None = None
    """PEM of the certificate's private key."""
    grpc_tls_ca_file: Path | None = Field(default=None, validate_default=True)
    """PEM of the authorities that sign the mesh's certificates, which name a service as DNS:<service>."""
    drain_s: Seconds = 60.0
    """How long work in progress may continue after SIGTERM."""

    @field_validator("grpc_tls_cert_file", "grpc_tls_ca_file")
    @classmethod
    def _holds_certificates(cls, path: Path | None) -> Path | None:
        if path:
            certificates_of(read_file(path))
        return path

    @field_validator("grpc_tls_key_file")
    @classmethod
    def _is_key_of_certificate(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        certificate = info.data.get("grpc_tls_cert_file")
        if path and certificate:
            require_key_of(certificates_of(read_file(certificate)), read_file(path))
        return path

    @field_validator("grpc_tls_ca_file")
    @classmethod
    def _are_all_or_none(cls, ca_file: Path | None, info: ValidationInfo) -> Path | None:
        # Validated at the last of the three fields, so that this fault is reported with those of all other fields.
        others = [info.data[name] for name in ("grpc_tls_cert_file", "grpc_tls_key_file") if name in info.data]
        if len({file is None for file in (ca_file, *others)}) > 1:
            raise ValueError("certificate, key and CA file of gRPC's TLS belong together: set all three or none")
        return ca_file

    def tls_files(self) -> TlsFiles | None:
        """None if connections are not encrypted."""
        if self.grpc_tls_cert_file and self.grpc_tls_key_file and self.grpc_tls_ca_file:
            return TlsFiles(self.grpc_tls_cert_file, self.grpc_tls_key_file, self.grpc_tls_ca_file)
        return None

    def tls_to(self, callee: str) -> ChannelTls | None:
        """The TLS of a channel to `callee`; None if it is not encrypted."""
        files = self.tls_files()
        return ChannelTls(files, callee) if files else None

    def service_keys(self) -> dict[str, dict[str, str]]:
        return parse_jwks(self.service_jwks_file.read_text())


class GrpcSettings(ServiceSettings):
    """Additional settings of a service that is called over gRPC."""

    grpc_host: str = "0.0.0.0"  # noqa: S104 - a pod's only address
    """Listen address of gRPC."""
    grpc_port: Port = 50051
    """Port of gRPC; 0 picks a free port."""
    grpc_health_port: Port | None = None
    """Port of a second server, without TLS, that only serves health for Kubernetes' probes. Not started if unset.

    A service with too many calls refuses probes on its gRPC port as well, and would be restarted for it.
    """
    grpc_reflection: bool = False
    """Whether to enable gRPC server reflection."""
    grpc_max_connection_age_s: Seconds = 300.0
    """Age at which a connection is closed gracefully, so that clients discover new replicas."""
    grpc_max_concurrent_rpcs: int = Field(default=2_000, ge=1)
    """Concurrent calls; further ones are rejected with RESOURCE_EXHAUSTED."""
    database_url: DatabaseUrl
    """`postgresql://<svc>_login_a:…@host:5432/mesh`: a login that may only assume the service's two roles."""
    database_pool_size: int = Field(default=20, ge=1, le=200)
    """Pooled connections to the database."""
    database_max_overflow: int = Field(default=10, ge=0, le=200)
    """Additional connections under load."""
    database_timeout_s: Seconds = 4.0
    """How long to wait for a connection and for a statement. Below the callers' 5 s, so that they get the error."""

    @field_validator("grpc_health_port")
    @classmethod
    def _is_a_second_port(cls, port: int | None, info: ValidationInfo) -> int | None:
        if port and port == info.data.get("grpc_port"):
            raise ValueError("must differ from the gRPC port")
        return port


class MigrationSettings(EnvironmentSettings):
    """Settings of the `migrate` command: the owner's login, which `serve` does not need."""

    owner_database_url: DatabaseUrl
    """`postgresql://<svc>_owner:…@host:5432/mesh`."""
    migration_timeout_s: Seconds = 600.0
    """Time limit of all migrations together. If it is exceeded, they are rolled back; the running release continues.

    Filling old rows has at most 60 s of it. The next `migrate` continues with the rest.
    """


def load_settings[S: BaseSettings](settings_class: type[S]) -> S:
    """Reads the environment. On faults, prints all of them, one per line, and exits with code 2."""
    try:
        return settings_class()
    except ValidationError as error:
        prefix = settings_class.model_config.get("env_prefix", "")
        sys.stderr.writelines(f"{line}\n" for line in fault_lines(error, prefix))
        sys.exit(2)
