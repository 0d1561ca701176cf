"""A service of the mesh served as in production, over mutual TLS on loopback, with a scripted ListScores."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from mesh.eval.v1 import eval_pb2, eval_pb2_grpc
from mesh_admin.secrets import SecretSet
from mesh_common.grpc.client import ServiceCalls, open_channel
from mesh_common.grpc.service import Drain, ServiceParts, open_grpc_service
from mesh_common.grpc.service_tokens import ServiceTokenSigner
from mesh_common.jwt import SigningKey
from mesh_common.process.settings import GrpcSettings
from mesh_common.process.tls_files import ChannelTls, TlsFiles

from support.net import free_port

TIMEOUT_S = 5.0


class _Eval(eval_pb2_grpc.EvalServiceServicer):
    def __init__(self, service: "TlsService") -> None:
        self._service = service

    async def ListScores(  # noqa: N802 - gRPC's name
        self, _request: eval_pb2.ListScoresRequest, _context: grpc.aio.ServicerContext[Any, Any]
    ) -> eval_pb2.ListScoresResponse:
        self._service.was_called.set()
        await self._service.may_answer.wait()
        return eval_pb2.ListScoresResponse(is_pending=True)


@dataclass
class TlsService:
    """`may_answer` is set unless a test holds the answers back."""

    port: int
    health_port: int
    signer: ServiceTokenSigner
    drain: Drain | None = None
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    was_called: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def target(self) -> str:
        """An IP address, as relays use; no certificate names it."""
        return f"ipv4:127.0.0.1:{self.port}"

    async def call(self, files: TlsFiles, *, callee: str = "eval") -> bool:
        """One call as the gateway with these certificates; the server's certificate must name `callee`."""
        async with open_channel(self.target, tls=ChannelTls(files, callee)) as channel:
            return await self.call_over(channel)

    async def call_over(self, channel: grpc.aio.Channel) -> bool:
        stub = eval_pb2_grpc.EvalServiceStub(channel)
        request = eval_pb2.ListScoresRequest(run_id="r")
        answer = await ServiceCalls("eval", self.signer).unary(stub.ListScores, request, timeout_s=TIMEOUT_S)
        return answer.is_pending


@asynccontextmanager
async def open_tls_service(
    secrets: SecretSet, folder: Path, files: TlsFiles | None, **overrides: object
) -> AsyncIterator[TlsService]:
    """Serves as eval; in plain text without `files`."""
    (folder / "jwks.json").write_text(secrets.service_jwks())
    settings = GrpcSettings.model_validate(
        {
            "service_key": secrets.service_keys["eval"],
            "service_jwks_file": folder / "jwks.json",
            "database_url": "postgresql://nobody:nothing@127.0.0.1/mesh",
            "metrics_host": "127.0.0.1",
            "metrics_port": 0,
            "grpc_host": "127.0.0.1",
            "grpc_port": free_port(),
            "grpc_health_port": free_port(),
            "grpc_tls_cert_file": files and files.certificate,
            "grpc_tls_key_file": files and files.key,
            "grpc_tls_ca_file": files and files.authorities,
            "drain_s": 1.0,
            **overrides,
        }
    )
    assert settings.grpc_health_port
    signer = ServiceTokenSigner("gateway", SigningKey.from_pem(secrets.service_keys["gateway"]))
    service = TlsService(settings.grpc_port, settings.grpc_health_port, signer)
    service.may_answer.set()
    servicer = _Eval(service)  # type: ignore[abstract]  # the rest is never called
    parts = ServiceParts(
        service="eval",
        proto_services=(),
        register=lambda server: eval_pb2_grpc.add_EvalServiceServicer_to_server(servicer, server),
    )
    async with open_grpc_service(settings, parts) as service.drain:
        yield service
