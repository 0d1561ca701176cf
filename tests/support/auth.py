"""Calls to a running auth service, as the gateway and the agent make them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from mesh.auth.v1 import auth_pb2, auth_pb2_grpc
from mesh_admin.secrets import make_secrets
from mesh_auth.bootstrap import open_service
from mesh_auth.ports import PasswordHasher
from mesh_auth.settings import AuthSettings
from mesh_common.grpc.client import ServiceCalls, open_channel
from mesh_common.ids import UserId, new_id
from mesh_common.jwt import JWTVerifier, parse_jwks

from support.mesh import TestMesh
from support.net import free_port
from support.subjects import personal

PASSWORD = "seven green kettles whistle"


@dataclass(frozen=True)
class AuthUnderTest:
    """The running service: its stub, and calls signed by the two services that may call it."""

    stub: auth_pb2_grpc.AuthServiceStub
    gateway: ServiceCalls
    agent: ServiceCalls
    settings: AuthSettings

    async def register(self, email: str | None = None, password: str = PASSWORD) -> auth_pb2.User:
        request = auth_pb2.RegisterRequest(email=some_email() if email is None else email, password=password)
        return (await self.gateway.unary(self.stub.Register, request, timeout_s=5)).user

    async def login(
        self, email: str, password: str = PASSWORD, *, client_address: str | None = None, timeout_s: float = 5
    ) -> auth_pb2.TokenPair:
        request = auth_pb2.LoginRequest(email=email, password=password, client_address=client_address)
        return (await self.gateway.unary(self.stub.Login, request, timeout_s=timeout_s)).tokens

    async def refresh(self, refresh_token: str) -> auth_pb2.TokenPair:
        request = auth_pb2.RefreshRequest(refresh_token=refresh_token)
        return (await self.gateway.unary(self.stub.Refresh, request, timeout_s=5)).tokens

    async def logout(self, user_id: UserId, session_id: str) -> None:
        request = auth_pb2.LogoutRequest(session_id=session_id)
        await self.gateway.unary(self.stub.Logout, request, timeout_s=5, subject=personal(user_id))

    async def user(self, user_id: UserId) -> auth_pb2.User:
        request = auth_pb2.GetUserRequest()
        return (await self.gateway.unary(self.stub.GetUser, request, timeout_s=5, subject=personal(user_id))).user

    async def revocations(self, cursor: str | None = None) -> auth_pb2.ListRevocationsResponse:
        request = auth_pb2.ListRevocationsRequest(cursor=cursor)
        return await self.gateway.unary(self.stub.ListRevocations, request, timeout_s=5)

    async def verifier(self) -> JWTVerifier:
        """A verifier of access tokens as the gateway has it."""
        request = auth_pb2.GetSigningKeysRequest()
        keys = (await self.gateway.unary(self.stub.GetSigningKeys, request, timeout_s=5)).jwks_json
        return JWTVerifier(
            parse_jwks(keys), token_type="at+jwt", audience=self.settings.audience, issuer=self.settings.issuer
        )

    async def session_of(self, tokens: auth_pb2.TokenPair) -> str:
        return str((await self.verifier()).verify(tokens.access_token)["sid"])


def some_email() -> str:
    return f"{new_id()}@example.com"


def settings_for(test_mesh: TestMesh) -> AuthSettings:
    """Settings of a service with three signing keys, on the database of the tests."""
    environment = test_mesh.environment("auth") | {
        "AUTH_GRPC_PORT": str(free_port()),
        "AUTH_SIGNING_KEY": test_mesh.secrets.signing_key,
        "AUTH_PREVIOUS_SIGNING_KEY": make_secrets().signing_key,
        "AUTH_NEXT_SIGNING_KEY": make_secrets().signing_key,
        "AUTH_DEFAULT_TOOLS": '["calculate"]',
        "AUTH_DEFAULT_MONTHLY_TOKENS": "1000",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        return AuthSettings()


@asynccontextmanager
async def opened(
    test_mesh: TestMesh, settings: AuthSettings, *, hasher: PasswordHasher | None = None
) -> AsyncIterator[AuthUnderTest]:
    """The real service on its own port; with its real hasher unless one is given."""
    settings = settings.model_copy(update={"grpc_port": free_port()})
    async with open_service(settings, hasher=hasher) as drain:
        channel = open_channel(f"127.0.0.1:{settings.grpc_port}")
        yield AuthUnderTest(
            stub=auth_pb2_grpc.AuthServiceStub(channel),
            gateway=test_mesh.calls_as("gateway", "auth"),
            agent=test_mesh.calls_as("agent", "auth"),
            settings=settings,
        )
        await channel.close()
        await drain()
