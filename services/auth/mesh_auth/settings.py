"""The settings of auth, prefix `AUTH_`."""

import os
from datetime import timedelta

from mesh_common.process.settings import GrpcSettings, MigrationSettings, PrivateKey, Seconds, settings_config
from pydantic import Field, ValidationInfo, field_validator

from mesh_auth.domain import Allowances, Lifetimes, LoginPolicy

_DAY_S = 86_400


class AuthMigrationSettings(MigrationSettings):
    model_config = settings_config("AUTH_")


class AuthSettings(GrpcSettings):
    """Settings of `serve` and `create-admin`."""

    model_config = settings_config("AUTH_")

    signing_key: PrivateKey
    """PEM of the EC P-256 private key that signs access tokens (`make secrets`)."""
    previous_signing_key: PrivateKey | None = None
    """PEM of the previous signing key. Tokens that it signed stay valid until they expire."""
    next_signing_key: PrivateKey | None = None
    """PEM of the next signing key. It is published before it signs, so that verifiers know it in time."""
    issuer: str = Field(default="https://mesh.local", min_length=1, max_length=200)
    """Claim `iss` of access tokens; must equal the gateway's."""
    audience: str = Field(default="mesh", min_length=1, max_length=200)
    """Claim `aud` of access tokens; must equal the gateway's."""
    registration_open: bool = True
    """Whether people may register accounts themselves."""
    access_token_ttl_s: int = Field(default=900, ge=60, le=3_600)
    """Lifetime of an access token."""
    refresh_token_ttl_s: int = Field(default=30 * _DAY_S, ge=60, le=365 * _DAY_S, validate_default=True)
    """Lifetime of a refresh token; each rotation starts it again."""
    login_failures_per_address: int = Field(default=10, ge=1, le=1_000)
    """Consecutive failed logins for one account from one client address (IPv6: from one /64) that cost nothing. Each
    further one must wait: 15 s, then twice as long each time, up to 15 minutes."""
    login_failures_per_account: int = Field(default=50, ge=2, le=10_000, validate_default=True)
    """The same for all addresses together from which the account's owner has not logged in within 30 days. Larger than
    the number for one address, so that one stranger cannot lock the owner out."""
    login_wait_s: Seconds = 2.0
    """How long a login may wait while as many others of the same account are in progress as may fail, e.g. when the
    programs of one office log in at once. It is refused if that takes longer."""
    session_max_age_s: int = Field(default=90 * _DAY_S, ge=60, le=3_650 * _DAY_S, validate_default=True)
    """Age at which a session ends and its user must log in again, however often it was refreshed. No refresh token is
    valid longer. Applies to existing sessions too, counted from their login."""
    hash_workers: int = Field(default_factory=lambda: os.process_cpu_count() or 1, ge=1, le=64)
    """Passwords hashed concurrently, each using 12 ms of one core and 19 MiB. Defaults to the number of cores."""
    hash_queue: int = Field(default=256, ge=0, le=10_000)
    """Passwords that may wait for a hashing thread; further ones are rejected with `Retry-After`."""
    hash_wait_s: Seconds = 2.0
    """Longest wait for a hashing thread, estimated from earlier hashes. A request that would wait longer is rejected
    too. After two seconds people press the button again, which adds another login."""
    default_models: tuple[str, ...] | None = None
    """JSON list of models that users may use; all if unset, none if empty."""
    default_tools: tuple[str, ...] | None = None
    """JSON list of tools that users may use; all if unset, none if empty."""
    default_context_tokens: int | None = Field(default=None, ge=1, le=2**31 - 1)
    """History sent to the model, in tokens; the model's own budget if unset."""
    default_monthly_tokens: int | None = Field(default=None, ge=0, le=2**53)
    """Tokens that a user may use per calendar month (UTC); unlimited if unset."""
    retention_period_s: Seconds = 60.0
    """Interval between deletions of expired sessions, tokens and revocations."""

    @field_validator("refresh_token_ttl_s")
    @classmethod
    def _outlives_access(cls, ttl_s: int, info: ValidationInfo) -> int:
        if ttl_s < info.data.get("access_token_ttl_s", ttl_s):
            raise ValueError("must not be shorter than AUTH_ACCESS_TOKEN_TTL_S")
        return ttl_s

    @field_validator("login_failures_per_account")
    @classmethod
    def _is_beyond_one_address(cls, per_account: int, info: ValidationInfo) -> int:
        if per_account <= info.data.get("login_failures_per_address", 0):
            raise ValueError("must be larger than AUTH_LOGIN_FAILURES_PER_ADDRESS")
        return per_account

    def login_policy(self) -> LoginPolicy:
        return LoginPolicy(self.login_failures_per_address, self.login_failures_per_account)

    @field_validator("session_max_age_s")
    @classmethod
    def _has_room_for_access(cls, max_age_s: int, info: ValidationInfo) -> int:
        if max_age_s < info.data.get("access_token_ttl_s", max_age_s):
            raise ValueError("must not be shorter than AUTH_ACCESS_TOKEN_TTL_S")
        return max_age_s

    def lifetimes(self) -> Lifetimes:
        return Lifetimes(
            timedelta(seconds=self.access_token_ttl_s),
            timedelta(seconds=self.refresh_token_ttl_s),
            timedelta(seconds=self.session_max_age_s),
        )

    def default_allowances(self) -> Allowances:
        return Allowances(
            self.default_models, self.default_tools, self.default_context_tokens, self.default_monthly_tokens
        )
