"""auth over gRPC."""

from datetime import UTC

import grpc
from mesh.auth.v1 import auth_pb2, auth_pb2_grpc
from mesh_common.clock import Clock
from mesh_common.subject import Subject

from mesh_gateway import convert
from mesh_gateway.clients.backend import Backend
from mesh_gateway.clients.users import UsersClient
from mesh_gateway.domain import MonthUsage, Tokens, User
from mesh_gateway.identity.login_capacity import LoginRoom
from mesh_gateway.identity.revocations import RevocationPage, RevokedSession


class AuthClient:
    def __init__(self, backend: Backend, channel: grpc.aio.Channel, *, login_timeout_s: float, clock: Clock) -> None:
        self.room = LoginRoom(clock)
        """Checked before any work for a login or a new account."""
        self._backend = backend
        self._stub = auth_pb2_grpc.AuthServiceStub(channel)
        self._login_timeout_s = login_timeout_s
        self.users = UsersClient(backend, channel, self.room, hash_timeout_s=login_timeout_s)

    async def register(self, email: str, password: str) -> User:
        request = auth_pb2.RegisterRequest(email=email, password=password)
        asked = self._backend.unary(self._stub.Register, request, timeout_s=self._login_timeout_s)
        return convert.user((await self.room.heard(asked)).user)

    async def login(self, email: str, password: str, *, client_address: str | None) -> Tokens:
        request = auth_pb2.LoginRequest(email=email, password=password, client_address=client_address)
        asked = self._backend.unary(self._stub.Login, request, timeout_s=self._login_timeout_s, checks_credentials=True)
        return convert.tokens((await self.room.heard(asked)).tokens)

    async def refresh(self, refresh_token: str) -> Tokens:
        request = auth_pb2.RefreshRequest(refresh_token=refresh_token)
        response = await self._backend.unary(self._stub.Refresh, request, checks_credentials=True)
        return convert.tokens(response.tokens)

    async def logout(self, subject: Subject, session_id: str) -> None:
        await self._backend.unary(self._stub.Logout, auth_pb2.LogoutRequest(session_id=session_id), subject=subject)

    async def user(self, subject: Subject) -> User:
        response = await self._backend.unary(self._stub.GetUser, auth_pb2.GetUserRequest(), subject=subject)
        return convert.user(response.user)

    async def usage(self, subject: Subject, month: str | None) -> MonthUsage:
        request = auth_pb2.GetUsageRequest(month=month)
        return convert.month_usage(await self._backend.unary(self._stub.GetUsage, request, subject=subject))

    async def signing_keys(self) -> str:
        """The JWKS document, as JSON."""
        response = await self._backend.unary(self._stub.GetSigningKeys, auth_pb2.GetSigningKeysRequest())
        return response.jwks_json

    async def revocations(self, cursor: str | None) -> RevocationPage:
        request = auth_pb2.ListRevocationsRequest(cursor=cursor)
        response = await self._backend.unary(self._stub.ListRevocations, request)
        sessions = tuple(
            RevokedSession(one.session_id, one.expires_at.ToDatetime(tzinfo=UTC)) for one in response.revocations
        )
        return RevocationPage(sessions, response.next_cursor, response.has_more)
