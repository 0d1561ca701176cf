"""What auth is told, prefix `AUTH_`."""

import os
from datetime import timedelta

from mesh_common.process.settings import GrpcSettings, MigrationSettings, PrivateKey, Seconds, settings_config
from pydantic import Field, ValidationInfo, field_validator

from mesh_auth.domain import Allowances, Lifetimes

_DAY_S = 86_400


class AuthMigrationSettings(MigrationSettings):
    """What `migrate` is told."""

    model_config = settings_config("AUTH_")


class AuthSettings(GrpcSettings):
    """What `serve` and `create-admin` are told."""

    model_config = settings_config("AUTH_")

    signing_key: PrivateKey
    """PEM of the EC P-256 private key that signs access tokens (`make secrets`)."""
    previous_signing_key: PrivateKey | None = None
    """PEM of the key before it: tokens that it signed are good until they expire."""
    next_signing_key: PrivateKey | None = None
    """PEM of the key to come: verifiers know it before it signs."""
    issuer: str = Field(default="https://mesh.local", min_length=1, max_length=200)
    """Claim `iss` of access tokens; the gateway must be told the same."""
    audience: str = Field(default="mesh", min_length=1, max_length=200)
    """Claim `aud` of access tokens; the gateway must be told the same."""
    registration_open: bool = True
    """Whether people may make accounts themselves."""
    access_token_ttl_s: int = Field(default=900, ge=60, le=3_600)
    """How long an access token is valid."""
    refresh_token_ttl_s: int = Field(default=30 * _DAY_S, ge=60, le=365 * _DAY_S, validate_default=True)
    """How long a refresh token is valid, counted anew with each rotation."""
    hash_workers: int = Field(default_factory=lambda: os.process_cpu_count() or 1, ge=1, le=64)
    """Passwords hashed at once, 12 ms of one core and 19 MiB each; as many as there are cores by default."""
    hash_queue: int = Field(default=256, ge=0, le=10_000)
    """Passwords that may wait for a hashing thread; more are refused with `Retry-After`."""
    hash_wait_s: Seconds = 2.0
    """Longest wait for a hashing thread, as far as can be told from the hashes before; who would wait longer is refused
    too. After two seconds people press the button again, which is one more login."""
    default_models: tuple[str, ...] = ()
    """JSON list of models that users may use; empty means all."""
    default_tools: tuple[str, ...] = ()
    """JSON list of tools that users may use; empty means all."""
    default_context_tokens: int | None = Field(default=None, ge=1, le=2**31 - 1)
    """History given to the model, in tokens; unset means the model's own budget."""
    default_monthly_tokens: int | None = Field(default=None, ge=0, le=2**53)
    """Tokens a user may use in a calendar month (UTC); unset means no bound."""
    retention_period_s: Seconds = 60.0
    """How often expired sessions, tokens and revocations are deleted."""

    @field_validator("refresh_token_ttl_s")
    @classmethod
    def _outlives_access(cls, ttl_s: int, info: ValidationInfo) -> int:
        if ttl_s < info.data.get("access_token_ttl_s", ttl_s):
            raise ValueError("must not be shorter than AUTH_ACCESS_TOKEN_TTL_S")
        return ttl_s

    def lifetimes(self) -> Lifetimes:
        return Lifetimes(timedelta(seconds=self.access_token_ttl_s), timedelta(seconds=self.refresh_token_ttl_s))

    def default_allowances(self) -> Allowances:
        return Allowances(
            self.default_models, self.default_tools, self.default_context_tokens, self.default_monthly_tokens
        )
