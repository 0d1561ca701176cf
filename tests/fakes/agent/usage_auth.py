"""The usage part of auth, behind the real boundary. The previous release did not have batches."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from mesh.auth.v1 import auth_pb2, auth_pb2_grpc
from mesh_agent.clients.auth import AuthClient
from mesh_common.caller import current_subject, require_user
from mesh_common.clock import SystemClock
from mesh_common.errors import InvalidInput, NotFound
from mesh_common.grpc.boundary import BoundaryInterceptor
from mesh_common.grpc.client import open_channel
from mesh_common.grpc.service_tokens import ServiceTokenVerifier
from mesh_common.ids import UserId
from mesh_common.jwt import parse_jwks
from support.mesh import TestMesh

SERVICE = "mesh.auth.v1.AuthService"
BAD_MODEL = ""


@dataclass
class UsageAuth:
    """Records which user was billed for which run, by single calls and by batches. Rejects runs of `BAD_MODEL`."""

    gone: set[UserId] = field(default_factory=set)
    singles: list[tuple[str, str]] = field(default_factory=list)
    batches: list[list[tuple[str, str]]] = field(default_factory=list)

    async def record_usage(self, request: auth_pb2.RecordUsageRequest, _context: Any) -> auth_pb2.RecordUsageResponse:
        if request.model == BAD_MODEL:
            raise InvalidInput.of_field("model", "must not be empty")
        if require_user() in self.gone:
            raise NotFound("There is no such user.")
        self.singles.append((str(require_user()), request.run_id))
        return auth_pb2.RecordUsageResponse()

    async def record_usage_batch(
        self, request: auth_pb2.RecordUsageBatchRequest, _context: Any
    ) -> auth_pb2.RecordUsageBatchResponse:
        assert current_subject() is None
        if any(entry.usage.model == BAD_MODEL for entry in request.entries):
            raise InvalidInput.of_field("entries[0].usage.model", "must not be empty")
        gone = {str(user_id) for user_id in self.gone}
        self.batches.append([(entry.user_id, entry.usage.run_id) for entry in request.entries])
        return auth_pb2.RecordUsageBatchResponse(
            unknown_user_ids={entry.user_id for entry in request.entries if entry.user_id in gone}
        )

    def handlers(self, *, knows_batches: bool) -> Any:
        """By name and not by a servicer, because a servicer's base class answers for methods that are missing."""
        methods: dict[str, Any] = {
            "RecordUsage": grpc.unary_unary_rpc_method_handler(
                self.record_usage,
                auth_pb2.RecordUsageRequest.FromString,
                auth_pb2.RecordUsageResponse.SerializeToString,
            ),
            "RecordUsageBatch": grpc.unary_unary_rpc_method_handler(
                self.record_usage_batch,
                auth_pb2.RecordUsageBatchRequest.FromString,
                auth_pb2.RecordUsageBatchResponse.SerializeToString,
            ),
        }
        if not knows_batches:
            del methods["RecordUsageBatch"]
        return grpc.method_handlers_generic_handler(SERVICE, methods)


@asynccontextmanager
async def serving(mesh: TestMesh, auth: UsageAuth, *, knows_batches: bool = True) -> AsyncIterator[AuthClient]:
    """Serves `auth` and yields the agent's client for it."""
    verifier = ServiceTokenVerifier(parse_jwks(mesh.secrets.service_jwks()), service="auth")
    server = grpc.aio.server(interceptors=[BoundaryInterceptor(verifier)])
    server.add_generic_rpc_handlers((auth.handlers(knows_batches=knows_batches),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with open_channel(f"127.0.0.1:{port}") as channel:
        stub = auth_pb2_grpc.AuthServiceStub(channel)
        yield AuthClient(mesh.calls_as("agent", "auth"), stub, SystemClock())
    await server.stop(None)
