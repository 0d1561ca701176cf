"""The RPCs of administrators."""

from typing import Any

from google.protobuf.message import Message
from mesh.auth.v1 import auth_pb2
from mesh_common.subject import Subject

from support.auth import PASSWORD, AuthUnderTest

OTHER_PASSWORD = f"{PASSWORD} again"


class AdminCalls:
    """The RPCs as one caller makes them."""

    def __init__(self, auth: AuthUnderTest, caller: Subject) -> None:
        self._auth = auth
        self._caller = caller

    async def _call(self, name: str, request: Message) -> Any:
        method = getattr(self._auth.stub, name)
        return await self._auth.gateway.unary(method, request, timeout_s=5, subject=self._caller)

    async def create(self, email: str, password: str = PASSWORD) -> auth_pb2.User:
        request = auth_pb2.CreateUserRequest(email=email, password=password)
        user: auth_pb2.User = (await self._call("CreateUser", request)).user
        return user

    async def list(self, cursor: str | None = None, limit: int = 2) -> auth_pb2.ListUsersResponse:
        request = auth_pb2.ListUsersRequest(limit=limit, cursor=cursor)
        response: auth_pb2.ListUsersResponse = await self._call("ListUsers", request)
        return response

    async def read(self, user_id: str) -> auth_pb2.User:
        user: auth_pb2.User = (await self._call("ReadUser", auth_pb2.ReadUserRequest(user_id=user_id))).user
        return user

    async def set_password(self, user_id: str, password: str = OTHER_PASSWORD) -> None:
        await self._call("SetPassword", auth_pb2.SetPasswordRequest(user_id=user_id, password=password))

    async def disable(self, user_id: str) -> auth_pb2.User:
        user: auth_pb2.User = (await self._call("DisableUser", auth_pb2.DisableUserRequest(user_id=user_id))).user
        return user

    async def enable(self, user_id: str) -> auth_pb2.User:
        user: auth_pb2.User = (await self._call("EnableUser", auth_pb2.EnableUserRequest(user_id=user_id))).user
        return user


async def revoked(auth: AuthUnderTest) -> set[str]:
    found: set[str] = set()
    page = await auth.revocations()
    found |= {entry.session_id for entry in page.revocations}
    while page.has_more:
        page = await auth.revocations(page.next_cursor)
        found |= {entry.session_id for entry in page.revocations}
    return found
