"""Accounts as administrators see and change them."""

from datetime import datetime

from pydantic import Field

from mesh_gateway.protocols.native.schemas.auth import Email, Secret, User
from mesh_gateway.protocols.native.schemas.common import Body


class CreateUserBody(Body):
    email: Email = Field(examples=["ada@example.com"])
    password: Secret = Field(min_length=15, max_length=128, examples=["correct horse battery staple"])


class SetPasswordBody(Body):
    password: Secret = Field(min_length=15, max_length=128, examples=["correct horse battery staple"])


class Account(User):
    disabled_at: datetime | None = Field(description="When the account was disabled; null while it is enabled.")
