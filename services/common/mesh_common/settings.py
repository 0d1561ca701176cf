"""Settings: one frozen class per service, from the environment, every fault reported at once."""

import sys
from pathlib import Path
from typing import Annotated, NoReturn

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from mesh_common.jwt import SigningKey, parse_jwks

Port = Annotated[int, Field(ge=0, le=65_535)]
Ratio = Annotated[float, Field(ge=0.0, le=1.0)]
Seconds = Annotated[float, Field(gt=0.0, le=3_600.0)]


class ServiceSettings(BaseSettings):
    """What every service is told. Subclasses set their prefix: `model_config = settings_config("MEMORY_")`."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

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
    service_key: SecretStr
    """PEM of the EC P-256 private key that signs this service's tokens (`make secrets`)."""
    service_jwks_file: Path
    """File with the public keys of all services, as `make secrets` writes it."""
    drain_s: Seconds = 60.0
    """How long work under way may go on after SIGTERM."""

    @field_validator("service_key")
    @classmethod
    def _is_signing_key(cls, value: SecretStr) -> SecretStr:
        SigningKey.from_pem(value.get_secret_value())
        return value

    @field_validator("service_jwks_file")
    @classmethod
    def _holds_public_keys(cls, value: Path) -> Path:
        try:
            parse_jwks(value.read_text())
        except OSError as error:
            raise ValueError(f"cannot be read: {error.strerror}") from error
        return value

    def service_keys(self) -> dict[str, dict[str, str]]:
        return parse_jwks(self.service_jwks_file.read_text())


class GrpcSettings(ServiceSettings):
    """What a service that is called over gRPC is told besides."""

    grpc_host: str = "0.0.0.0"  # noqa: S104 - a pod's only address
    """Address that gRPC listens on."""
    grpc_port: Port = 50051
    """Port of gRPC; 0 picks a free one."""
    grpc_reflection: bool = False
    """Whether tools may ask for the services offered."""
    grpc_max_connection_age_s: Seconds = 300.0
    """After this a connection is closed softly, so that clients see new replicas."""
    grpc_max_message_bytes: int = Field(default=1_048_576, ge=65_536, le=16_777_216)
    """Largest message taken or sent."""
    grpc_max_concurrent_rpcs: int = Field(default=2_000, ge=1)
    """Calls served at once; more are refused as RESOURCE_EXHAUSTED."""
    database_url: SecretStr
    """`postgresql://<svc>_login_a:…@host:5432/mesh`: a login that may only take the service's two roles."""
    database_pool_size: int = Field(default=20, ge=1, le=200)
    """Connections kept open."""
    database_max_overflow: int = Field(default=10, ge=0, le=200)
    """Connections opened beyond the pool under load."""
    database_timeout_s: Seconds = 4.0
    """How long to wait for a connection, and for a statement; below the 5 s callers wait, so that they hear why."""


class MigrationSettings(BaseSettings):
    """What the `migrate` command is told: the owner's login, which `serve` never sees."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    owner_database_url: SecretStr
    """`postgresql://<svc>_owner:…@host:5432/mesh`."""


def settings_config(prefix: str) -> SettingsConfigDict:
    return SettingsConfigDict(frozen=True, extra="ignore", env_prefix=prefix, env_ignore_empty=True)


def load_settings[S: BaseSettings](settings_class: type[S]) -> S:
    """Reads the environment; on faults prints all of them, one a line, and exits with 2."""
    try:
        return settings_class()
    except ValidationError as error:
        _exit_with_faults(settings_class, error)


def _exit_with_faults(settings_class: type[BaseSettings], error: ValidationError) -> NoReturn:
    prefix = settings_class.model_config.get("env_prefix", "")
    for fault in error.errors(include_input=False, include_url=False):
        name = ".".join(str(part) for part in fault["loc"])
        variable = name if name.isupper() else f"{prefix}{name}".upper()
        sys.stderr.write(f"{variable}: {fault['msg']}\n")
    sys.exit(2)
