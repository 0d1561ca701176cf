"""Accounts and tokens."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, StringConstraints, field_validator

from mesh_gateway.protocols.native.schemas.common import Answer, Body, CleanText, without_surrogates

Email = Annotated[CleanText, StringConstraints(min_length=3, max_length=254)]


def _encodable(secret: SecretStr) -> SecretStr:
    without_surrogates(secret.get_secret_value())
    return secret


# Any characters, even NUL, but no lone surrogates.
Secret = Annotated[SecretStr, AfterValidator(_encodable)]


class RegisterBody(Body):
    email: Email = Field(examples=["ada@example.com"])
    password: Secret = Field(min_length=15, max_length=128, examples=["correct horse battery staple"])


class LoginForm(Body):
    """The password form of OAuth2 (RFC 6749, section 4.3)."""

    grant_type: Literal["password"] = "password"
    username: Email = Field(description="The e-mail address.", examples=["ada@example.com"])
    password: Secret = Field(min_length=1, max_length=128, examples=["correct horse battery staple"])

    @field_validator("grant_type", mode="before")
    @classmethod
    def _empty_means_password(cls, value: object) -> object:
        return value or "password"


class RefreshBody(Body):
    refresh_token: Secret = Field(min_length=1, max_length=512, examples=["bq3Z…"])


class Tokens(Answer):
    """The tokens of a login. Each refresh returns the next refresh token."""

    access_token: str = Field(examples=["eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9…"])
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - a type, no secret
    expires_in: int = Field(description="Seconds.", examples=[900])
    refresh_token: str = Field(examples=["bq3Z…"])


class User(Answer):
    id: str = Field(examples=["0199f0c4-1b7e-7c3a-8f11-3a4b5c6d7e8f"])
    email: str = Field(examples=["ada@example.com"])
    created_at: datetime
    is_admin: bool = Field(examples=[False])
