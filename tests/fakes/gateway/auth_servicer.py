# ruff: noqa: N802, ARG002 - methods are named and shaped by the generated servicer
"""auth as the gateway sees it: accounts in memory, real ES256 tokens."""

import time
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from mesh.auth.v1 import auth_pb2, auth_pb2_grpc
from mesh_common.caller import require_subject, require_user
from mesh_common.errors import AlreadyExists, MeshError, NotFound, PermissionDenied, Unauthenticated, Unavailable
from mesh_common.ids import new_id
from mesh_common.jwt import SigningKey, TokenType, new_private_key_pem, public_jwk
from mesh_common.subject import Subject

ISSUER = "https://mesh.local"
AUDIENCE = "mesh"
_TTL_S = 900


class FakeAuth(auth_pb2_grpc.AuthServiceServicer):
    def __init__(self) -> None:
        self.key = SigningKey.from_pem(new_private_key_pem())
        self.keys_given = 0
        self.is_hashing_pool_full = False
        self.hashes_asked = 0
        self.login_refusal: MeshError | None = None
        self.client_addresses: list[str | None] = []
        """Of calls of Login."""
        self.subjects: list[Subject] = []
        """Of calls of GetUser."""
        self.admin_calls = 0
        """Calls of administrators' RPCs."""
        self.has_no_admins = False
        self._disabled: set[str] = set()
        self._accounts: dict[str, tuple[UUID, str]] = {}
        self._refresh: dict[str, tuple[UUID, str]] = {}
        self._revoked: list[tuple[str, int]] = []

    def access_token(
        self,
        user_id: UUID | None = None,
        *,
        key: SigningKey | None = None,
        token_type: TokenType = "at+jwt",  # noqa: S107 - a type, no secret
        **changes: Any,
    ) -> str:
        """A valid token, or one with changed claims. None removes the claim."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(user_id or new_id()),
            "sid": str(new_id()),
            "jti": str(new_id()),
            "iat": now,
            "exp": now + _TTL_S,
            **changes,
        }
        return (key or self.key).sign({name: value for name, value in claims.items() if value is not None}, token_type)

    def revoke_elsewhere(self, session_id: str) -> None:
        """Simulates a logout through another gateway."""
        self._revoked.append((session_id, int(time.time()) + _TTL_S))

    async def Register(self, request: auth_pb2.RegisterRequest, context: Any) -> auth_pb2.RegisterResponse:
        self.hashes_asked += 1
        if self.is_hashing_pool_full:
            raise Unavailable("Too many logins at once.", reason="LOGIN_CAPACITY", retry_after_s=3)
        if request.email.casefold() in self._accounts:
            raise AlreadyExists("This e-mail address cannot be used.", reason="EMAIL_TAKEN")
        user_id = new_id()
        self._accounts[request.email.casefold()] = (user_id, request.password)
        return auth_pb2.RegisterResponse(user=_user(user_id, request.email))

    async def Login(self, request: auth_pb2.LoginRequest, context: Any) -> auth_pb2.LoginResponse:
        self.hashes_asked += 1
        if self.login_refusal:
            raise self.login_refusal
        self.client_addresses.append(request.client_address if request.HasField("client_address") else None)
        user_id, password = self._accounts.get(request.email.casefold(), (None, None))
        if user_id is None or password != request.password:
            raise Unauthenticated("E-mail or password is wrong.", reason="WRONG_CREDENTIALS")
        return auth_pb2.LoginResponse(tokens=self._tokens(user_id, str(new_id())))

    async def Refresh(self, request: auth_pb2.RefreshRequest, context: Any) -> auth_pb2.RefreshResponse:
        session = self._refresh.pop(request.refresh_token, None)
        if session is None:
            raise Unauthenticated("The session has ended. Log in again.", reason="INVALID_REFRESH_TOKEN")
        return auth_pb2.RefreshResponse(tokens=self._tokens(*session))

    async def Logout(self, request: auth_pb2.LogoutRequest, context: Any) -> auth_pb2.LogoutResponse:
        require_user()
        self.revoke_elsewhere(request.session_id)
        return auth_pb2.LogoutResponse()

    async def GetSigningKeys(
        self, request: auth_pb2.GetSigningKeysRequest, context: Any
    ) -> auth_pb2.GetSigningKeysResponse:
        self.keys_given += 1
        return auth_pb2.GetSigningKeysResponse(jwks_json=orjson.dumps({"keys": [public_jwk(self.key.pem)]}).decode())

    async def ListRevocations(
        self, request: auth_pb2.ListRevocationsRequest, context: Any
    ) -> auth_pb2.ListRevocationsResponse:
        start = int(request.cursor or 0)
        # Pages of one entry, so that paging is exercised.
        page = self._revoked[start : start + 1]
        revocations = [
            auth_pb2.Revocation(session_id=session_id, expires_at=Timestamp(seconds=expires_at))
            for session_id, expires_at in page
        ]
        end = start + len(page)
        return auth_pb2.ListRevocationsResponse(
            revocations=revocations, next_cursor=str(end), has_more=end < len(self._revoked)
        )

    async def GetUser(self, request: auth_pb2.GetUserRequest, context: Any) -> auth_pb2.GetUserResponse:
        user_id = require_user()
        self.subjects.append(require_subject())
        email = next((email for email, (known, _) in self._accounts.items() if known == user_id), "nobody@example.com")
        return auth_pb2.GetUserResponse(user=_user(user_id, email))

    async def GetUsage(self, request: auth_pb2.GetUsageRequest, context: Any) -> auth_pb2.GetUsageResponse:
        usage = auth_pb2.ModelUsage(model="sim", runs=2, input_tokens=10, output_tokens=5, cost_micro_usd=1_500_000)
        return auth_pb2.GetUsageResponse(month=request.month or "2026-11", models=[usage])

    async def CreateUser(self, request: auth_pb2.CreateUserRequest, context: Any) -> auth_pb2.CreateUserResponse:
        self.require_admin()
        if request.email.casefold() in self._accounts:
            raise AlreadyExists("This e-mail address cannot be used.", reason="EMAIL_TAKEN")
        user_id = new_id()
        self._accounts[request.email.casefold()] = (user_id, request.password)
        return auth_pb2.CreateUserResponse(user=self._account(str(user_id)))

    async def ListUsers(self, request: auth_pb2.ListUsersRequest, context: Any) -> auth_pb2.ListUsersResponse:
        """Cursors are numbers."""
        self.require_admin()
        start = int(request.cursor or 0)
        users = [self._account(str(user_id)) for user_id, _ in self._accounts.values()]
        end = start + request.limit
        following = str(end) if end < len(users) else None
        return auth_pb2.ListUsersResponse(users=users[start:end], next_cursor=following)

    async def ReadUser(self, request: auth_pb2.ReadUserRequest, context: Any) -> auth_pb2.ReadUserResponse:
        self.require_admin()
        return auth_pb2.ReadUserResponse(user=self._account(request.user_id))

    async def SetPassword(self, request: auth_pb2.SetPasswordRequest, context: Any) -> auth_pb2.SetPasswordResponse:
        self.require_admin()
        email = self._account(request.user_id).email
        self._accounts[email] = (UUID(request.user_id), request.password)
        return auth_pb2.SetPasswordResponse()

    async def DisableUser(self, request: auth_pb2.DisableUserRequest, context: Any) -> auth_pb2.DisableUserResponse:
        self.require_admin()
        self._account(request.user_id)
        self._disabled.add(request.user_id)
        return auth_pb2.DisableUserResponse(user=self._account(request.user_id))

    async def EnableUser(self, request: auth_pb2.EnableUserRequest, context: Any) -> auth_pb2.EnableUserResponse:
        self.require_admin()
        self._disabled.discard(request.user_id)
        return auth_pb2.EnableUserResponse(user=self._account(request.user_id))

    def require_admin(self) -> None:
        self.admin_calls += 1
        if self.has_no_admins or "admin" not in require_subject().scopes:
            raise PermissionDenied("Only administrators may do this.", reason="ADMIN_REQUIRED")

    def _account(self, user_id: str) -> auth_pb2.User:
        email = next((email for email, (known, _) in self._accounts.items() if str(known) == user_id), None)
        if email is None:
            raise NotFound("There is no such user.")
        user = _user(UUID(user_id), email)
        if user_id in self._disabled:
            user.disabled_at.FromSeconds(1_764_000_001)
        return user

    async def GetEntitlements(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def RecordUsage(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def RecordUsageBatch(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    def _tokens(self, user_id: UUID, session_id: str) -> auth_pb2.TokenPair:
        refresh_token = str(new_id())
        self._refresh[refresh_token] = (user_id, session_id)
        expires_in = Duration()
        expires_in.FromTimedelta(timedelta(seconds=_TTL_S))
        token = self.access_token(user_id, sid=session_id)
        return auth_pb2.TokenPair(access_token=token, expires_in=expires_in, refresh_token=refresh_token)


def _user(user_id: UUID, email: str) -> auth_pb2.User:
    return auth_pb2.User(id=str(user_id), email=email, created_at=Timestamp(seconds=1_764_000_000))
