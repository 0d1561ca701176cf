"""Settings: one frozen class per service, from the environment, every fault reported at once."""

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
    """Leaves what is no JSON to validation: it would raise here for the first such variable and hide all others."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except (ValueError, RecursionError):
            return value


class EnvironmentSettings(BaseSettings):
    """Settings that come from the environment alone."""

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
    """What every service is told. Subclasses set their prefix: `model_config = settings_config("MEMORY_")`."""

    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    """Least severe level that is logged."""
    metrics_host: str = "0.0.0.0"  # noqa: S104 - a pod's only address
    """Address that /metrics listens on; the port is internal, never behind the ingress."""
    metrics_port: Port = 9464
    """Port of /metrics; 0 picks a free one."""
    otlp_endpoint: str | None = Field(default=None, validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT")
    """OTLP/gRPC collector, e.g. `http://collector:4317`; without one nothing is traced."""
    trace_sample_ratio: Ratio = 0.05
    """Part of new traces that is recorded; a caller's decision is followed."""
    service_key: PrivateKey
    """PEM of the EC P-256 private key that signs this service's tokens (`make secrets`)."""
    service_jwks_file: JwksFile
    """File with the public keys of all services, as `make secrets` writes it."""
    grpc_tls_cert_file: Path | None = None
    """PEM of this service's certificate and its chain; with the next two every gRPC connection is mutual TLS."""
    grpc_tls_key_file: Path | None = None
    """PEM of the certificate's private key."""
    grpc_tls_ca_file: Path | None = Field(default=None, validate_default=True)
    """PEM of the authorities that certificates of the mesh are signed by; they name a service as DNS:<service>."""
    drain_s: Seconds = 60.0
    """How long work under way may go on after SIGTERM."""

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
        # Stands at the last of the three, so that its fault is told with those of all other fields.
        others = [info.data[name] for name in ("grpc_tls_cert_file", "grpc_tls_key_file") if name in info.data]
        if len({file is None for file in (ca_file, *others)}) > 1:
            raise ValueError("certificate, key and CA file of gRPC's TLS belong together: give all three or none")
        return ca_file

    def tls_files(self) -> TlsFiles | None:
        """None: connections are in the clear."""
        if self.grpc_tls_cert_file and self.grpc_tls_key_file and self.grpc_tls_ca_file:
            return TlsFiles(self.grpc_tls_cert_file, self.grpc_tls_key_file, self.grpc_tls_ca_file)
        return None

    def tls_to(self, callee: str) -> ChannelTls | None:
        """What a channel to `callee` is secured with; None: it is not."""
        files = self.tls_files()
        return ChannelTls(files, callee) if files else None

    def service_keys(self) -> dict[str, dict[str, str]]:
        return parse_jwks(self.service_jwks_file.read_text())


class GrpcSettings(ServiceSettings):
    """What a service that is called over gRPC is told besides."""

    grpc_host: str = "0.0.0.0"  # noqa: S104 - a pod's only address
    """Address that gRPC listens on."""
    grpc_port: Port = 50051
    """Port of gRPC; 0 picks a free one."""
    grpc_health_port: Port | None = None
    """Port of a second server without TLS that serves health alone, for Kubernetes' probes; unset: there is none."""
    grpc_reflection: bool = False
    """Whether tools may ask for the services offered."""
    grpc_max_connection_age_s: Seconds = 300.0
    """After this a connection is closed softly, so that clients see new replicas."""
    grpc_max_message_bytes: int = Field(default=1_048_576, ge=65_536, le=16_777_216)
    """Largest message taken or sent."""
    grpc_max_concurrent_rpcs: int = Field(default=2_000, ge=1)
    """Calls served at once; more are refused as RESOURCE_EXHAUSTED."""
    database_url: DatabaseUrl
    """`postgresql://<svc>_login_a:…@host:5432/mesh`: a login that may only take the service's two roles."""
    database_pool_size: int = Field(default=20, ge=1, le=200)
    """Connections kept open."""
    database_max_overflow: int = Field(default=10, ge=0, le=200)
    """Connections opened beyond the pool under load."""
    database_timeout_s: Seconds = 4.0
    """How long to wait for a connection, and for a statement; below the 5 s callers wait, so that they hear why."""

    @field_validator("grpc_health_port")
    @classmethod
    def _is_a_second_port(cls, port: int | None, info: ValidationInfo) -> int | None:
        if port and port == info.data.get("grpc_port"):
            raise ValueError("must be another port than that of gRPC")
        return port


class MigrationSettings(EnvironmentSettings):
    """What the `migrate` command is told: the owner's login, which `serve` never sees."""

    owner_database_url: DatabaseUrl
    """`postgresql://<svc>_owner:…@host:5432/mesh`."""
    migration_timeout_s: Seconds = 600.0
    """How long all migrations together may take; after it they are undone, and the running release goes on."""


def load_settings[S: BaseSettings](settings_class: type[S]) -> S:
    """Reads the environment; on faults prints all of them, one a line, and exits with 2."""
    try:
        return settings_class()
    except ValidationError as error:
        prefix = settings_class.model_config.get("env_prefix", "")
        sys.stderr.writelines(f"{line}\n" for line in fault_lines(error, prefix))
        sys.exit(2)
