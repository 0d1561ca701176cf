"""Accounts of all users, for administrators, over auth's gRPC. auth checks the caller again."""

import grpc
from mesh.auth.v1 import auth_pb2, auth_pb2_grpc
from mesh_common.ids import UserId
from mesh_common.subject import Subject

from mesh_gateway import convert
from mesh_gateway.clients.backend import Backend
from mesh_gateway.domain import Page, User
from mesh_gateway.identity.login_capacity import LoginRoom


class UsersClient:
    """`caller` is the administrator."""

    def __init__(self, backend: Backend, channel: grpc.aio.Channel, room: LoginRoom, *, hash_timeout_s: float) -> None:
        self._backend = backend
        self._stub = auth_pb2_grpc.AuthServiceStub(channel)
        self._room = room
        self._hash_timeout_s = hash_timeout_s

    async def create(self, caller: Subject, email: str, password: str) -> User:
        """Raises Unavailable if auth had no capacity for another password a moment ago."""
        self._room.require()
        request = auth_pb2.CreateUserRequest(email=email, password=password)
        asked = self._backend.unary(self._stub.CreateUser, request, subject=caller, timeout_s=self._hash_timeout_s)
        return convert.user((await self._room.heard(asked)).user)

    async def list(self, caller: Subject, limit: int, cursor: str | None) -> Page[User]:
        request = auth_pb2.ListUsersRequest(limit=limit, cursor=cursor)
        page = await self._backend.unary(self._stub.ListUsers, request, subject=caller)
        following = page.next_cursor if page.HasField("next_cursor") else None
        return Page([convert.user(one) for one in page.users], following)

    async def read(self, caller: Subject, user_id: UserId) -> User:
        request = auth_pb2.ReadUserRequest(user_id=str(user_id))
        return convert.user((await self._backend.unary(self._stub.ReadUser, request, subject=caller)).user)

    async def set_password(self, caller: Subject, user_id: UserId, password: str) -> None:
        """Raises as `create`."""
        self._room.require()
        request = auth_pb2.SetPasswordRequest(user_id=str(user_id), password=password)
        asked = self._backend.unary(self._stub.SetPassword, request, subject=caller, timeout_s=self._hash_timeout_s)
        await self._room.heard(asked)

    async def disable(self, caller: Subject, user_id: UserId) -> User:
        request = auth_pb2.DisableUserRequest(user_id=str(user_id))
        return convert.user((await self._backend.unary(self._stub.DisableUser, request, subject=caller)).user)

    async def enable(self, caller: Subject, user_id: UserId) -> User:
        request = auth_pb2.EnableUserRequest(user_id=str(user_id))
        return convert.user((await self._backend.unary(self._stub.EnableUser, request, subject=caller)).user)
