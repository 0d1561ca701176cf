"""AuthService over gRPC: proto in, use case, proto out."""

from dataclasses import dataclass
from typing import Any, Final

import grpc
from mesh.auth.v1 import auth_pb2, auth_pb2_grpc
from mesh_common.caller import require_subject

from mesh_auth import convert
from mesh_auth.administration import Administration
from mesh_auth.ports import AccessTokenSigner
from mesh_auth.usecases import (
    GetEntitlements,
    GetUsage,
    GetUser,
    ListRevocations,
    Login,
    Logout,
    RecordUsage,
    RecordUsageBatch,
    Refresh,
    Register,
)

PROTO_SERVICE: Final = auth_pb2.DESCRIPTOR.services_by_name["AuthService"].full_name

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class UseCases:
    register: Register
    login: Login
    refresh: Refresh
    logout: Logout
    list_revocations: ListRevocations
    get_user: GetUser
    get_entitlements: GetEntitlements
    record_usage: RecordUsage
    record_usage_batch: RecordUsageBatch
    get_usage: GetUsage
    administration: Administration


class AuthServicer(auth_pb2_grpc.AuthServiceServicer):
    def __init__(self, use_cases: UseCases, signer: AccessTokenSigner) -> None:
        self._use_cases = use_cases
        self._signer = signer

    def add_to(self, server: grpc.aio.Server) -> None:
        auth_pb2_grpc.add_AuthServiceServicer_to_server(self, server)

    async def Register(self, request: auth_pb2.RegisterRequest, context: Context) -> auth_pb2.RegisterResponse:
        user = await self._use_cases.register(*convert.new_account(request))
        return auth_pb2.RegisterResponse(user=convert.user_to_proto(user))

    async def Login(self, request: auth_pb2.LoginRequest, context: Context) -> auth_pb2.LoginResponse:
        tokens = await self._use_cases.login(*convert.login_credentials(request))
        return auth_pb2.LoginResponse(tokens=convert.tokens_to_proto(tokens))

    async def Refresh(self, request: auth_pb2.RefreshRequest, context: Context) -> auth_pb2.RefreshResponse:
        tokens = await self._use_cases.refresh(convert.refresh_token(request))
        return auth_pb2.RefreshResponse(tokens=convert.tokens_to_proto(tokens))

    async def Logout(self, request: auth_pb2.LogoutRequest, context: Context) -> auth_pb2.LogoutResponse:
        await self._use_cases.logout(require_subject(), convert.session_id(request))
        return auth_pb2.LogoutResponse()

    async def GetSigningKeys(
        self, request: auth_pb2.GetSigningKeysRequest, context: Context
    ) -> auth_pb2.GetSigningKeysResponse:
        return auth_pb2.GetSigningKeysResponse(jwks_json=self._signer.jwks_json())

    async def ListRevocations(
        self, request: auth_pb2.ListRevocationsRequest, context: Context
    ) -> auth_pb2.ListRevocationsResponse:
        return convert.revocations_to_proto(await self._use_cases.list_revocations(convert.cursor(request)))

    async def GetUser(self, request: auth_pb2.GetUserRequest, context: Context) -> auth_pb2.GetUserResponse:
        return auth_pb2.GetUserResponse(user=convert.user_to_proto(await self._use_cases.get_user(require_subject())))

    async def GetEntitlements(
        self, request: auth_pb2.GetEntitlementsRequest, context: Context
    ) -> auth_pb2.GetEntitlementsResponse:
        entitlements = await self._use_cases.get_entitlements(require_subject())
        return auth_pb2.GetEntitlementsResponse(entitlements=convert.entitlements_to_proto(entitlements))

    async def RecordUsage(self, request: auth_pb2.RecordUsageRequest, context: Context) -> auth_pb2.RecordUsageResponse:
        await self._use_cases.record_usage(require_subject(), convert.run_usage(request))
        return auth_pb2.RecordUsageResponse()

    async def RecordUsageBatch(
        self, request: auth_pb2.RecordUsageBatchRequest, context: Context
    ) -> auth_pb2.RecordUsageBatchResponse:
        unknown = await self._use_cases.record_usage_batch(convert.usage_entries(request))
        return convert.unknown_users_to_proto(unknown)

    async def GetUsage(self, request: auth_pb2.GetUsageRequest, context: Context) -> auth_pb2.GetUsageResponse:
        return convert.usage_to_proto(*await self._use_cases.get_usage(require_subject(), convert.month(request)))

    async def CreateUser(self, request: auth_pb2.CreateUserRequest, context: Context) -> auth_pb2.CreateUserResponse:
        credentials = convert.new_credentials(request.email, request.password)
        user = await self._use_cases.administration.create(require_subject(), *credentials)
        return auth_pb2.CreateUserResponse(user=convert.user_to_proto(user))

    async def ListUsers(self, request: auth_pb2.ListUsersRequest, context: Context) -> auth_pb2.ListUsersResponse:
        after, limit = convert.user_position(request)
        page = await self._use_cases.administration.list(require_subject(), after=after, limit=limit)
        return convert.users_to_proto(page)

    async def ReadUser(self, request: auth_pb2.ReadUserRequest, context: Context) -> auth_pb2.ReadUserResponse:
        user = await self._use_cases.administration.read(require_subject(), convert.user_id(request))
        return auth_pb2.ReadUserResponse(user=convert.user_to_proto(user))

    async def SetPassword(self, request: auth_pb2.SetPasswordRequest, context: Context) -> auth_pb2.SetPasswordResponse:
        password = convert.new_password(request.password)
        await self._use_cases.administration.set_password(require_subject(), convert.user_id(request), password)
        return auth_pb2.SetPasswordResponse()

    async def DisableUser(self, request: auth_pb2.DisableUserRequest, context: Context) -> auth_pb2.DisableUserResponse:
        user = await self._use_cases.administration.disable(require_subject(), convert.user_id(request))
        return auth_pb2.DisableUserResponse(user=convert.user_to_proto(user))

    async def EnableUser(self, request: auth_pb2.EnableUserRequest, context: Context) -> auth_pb2.EnableUserResponse:
        user = await self._use_cases.administration.enable(require_subject(), convert.user_id(request))
        return auth_pb2.EnableUserResponse(user=convert.user_to_proto(user))
