"""A gateway in this process, with four fake services behind real gRPC servers with the real boundary."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import grpc
import httpx
import orjson
from fakes.gateway.agent_servicer import FakeAgent
from fakes.gateway.auth_servicer import FakeAuth
from fakes.gateway.dead_letters_servicer import FakeDeadLetters
from fakes.gateway.eval_servicer import FakeEval
from fakes.gateway.memory_servicer import FakeMemory
from mesh.agent.v1.agent_pb2_grpc import add_AgentServiceServicer_to_server
from mesh.auth.v1.auth_pb2_grpc import add_AuthServiceServicer_to_server
from mesh.eval.v1.eval_pb2_grpc import add_EvalServiceServicer_to_server
from mesh.jobs.v1.jobs_pb2_grpc import add_DeadLetterServiceServicer_to_server
from mesh.memory.v1.memory_pb2_grpc import add_MemoryServiceServicer_to_server
from mesh_admin.secrets import SecretSet
from mesh_common.grpc.boundary import BoundaryInterceptor
from mesh_common.grpc.server import PING_POLICY
from mesh_common.grpc.service_tokens import ServiceTokenVerifier
from mesh_common.ids import new_id
from mesh_common.jwt import parse_jwks
from mesh_gateway.bootstrap import GatewayProcess, open_gateway
from mesh_gateway.settings import GatewaySettings

_REGISTER: Final[Mapping[str, Any]] = {
    "auth": add_AuthServiceServicer_to_server,
    "agent": add_AgentServiceServicer_to_server,
    "memory": add_MemoryServiceServicer_to_server,
    "eval": add_EvalServiceServicer_to_server,
}


_JOBS: Final = ("agent", "memory", "eval")


@dataclass
class FakeMesh:
    """The four services. Each can be stopped and restarts on its old port."""

    secrets: SecretSet
    jwks_file: Path
    auth: FakeAuth = field(default_factory=FakeAuth)
    agent: FakeAgent = field(default_factory=FakeAgent)
    memory: FakeMemory = field(default_factory=FakeMemory)
    eval: FakeEval = field(default_factory=FakeEval)
    dead_letters: dict[str, FakeDeadLetters] = field(
        default_factory=lambda: {name: FakeDeadLetters() for name in _JOBS}
    )
    ports: dict[str, int] = field(default_factory=dict)
    servers: dict[str, grpc.aio.Server] = field(default_factory=dict)

    async def start(self, service: str) -> None:
        verifier = ServiceTokenVerifier(parse_jwks(self.jwks_file.read_text()), service=service)
        options = (("grpc.so_reuseport", 0), *PING_POLICY)
        server = grpc.aio.server(interceptors=[BoundaryInterceptor(verifier)], options=options)
        _REGISTER[service](getattr(self, service), server)
        if service in _JOBS:
            add_DeadLetterServiceServicer_to_server(self.dead_letters[service], server)
        self.ports[service] = server.add_insecure_port(f"127.0.0.1:{self.ports.get(service, 0)}")
        await server.start()
        self.servers[service] = server

    async def stop(self, service: str) -> None:
        await self.servers.pop(service).stop(None)

    @asynccontextmanager
    async def without(self, service: str) -> AsyncIterator[None]:
        await self.stop(service)
        try:
            yield
        finally:
            await self.start(service)

    def settings(self, redis_url: str, **changes: Any) -> GatewaySettings:
        values: dict[str, Any] = {
            "service_key": self.secrets.service_keys["gateway"],
            "service_jwks_file": self.jwks_file,
            "metrics_host": "127.0.0.1",
            "metrics_port": 0,
            "http_host": "127.0.0.1",
            "http_port": 0,
            "redis_url": redis_url,
            "login_limit_per_minute": 10_000,
            "anonymous_limit_per_minute": 10_000,
            "chat_limit_per_minute": 10_000,
            "memory_limit_per_minute": 10_000,
            "list_limit_per_minute": 10_000,
            "write_limit_per_minute": 10_000,
            "drain_s": 5.0,
            **{f"{name}_target": f"ipv4:127.0.0.1:{port}" for name, port in self.ports.items()},
            **changes,
        }
        return GatewaySettings(**values)


@dataclass
class Client:
    """An HTTP client of one gateway; `as_user` gives the headers of a user."""

    http: httpx.AsyncClient
    mesh: FakeMesh
    process: GatewayProcess

    def as_user(self, user_id: UUID | None = None) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.mesh.auth.access_token(user_id or new_id())}"}


@asynccontextmanager
async def running_gateway(mesh: FakeMesh, redis_url: str, **changes: Any) -> AsyncIterator[Client]:
    """A gateway that is ready, or that is unready because auth is unavailable and nothing is cached."""
    async with open_gateway(mesh.settings(redis_url, **changes)) as process:
        base_url = f"http://127.0.0.1:{process.port}"
        async with httpx.AsyncClient(base_url=base_url, timeout=20, trust_env=False) as http:
            yield Client(http, mesh, process)


async def eventually(client: Client, path: str, status: int, headers: dict[str, str] | None = None) -> None:
    """Polls until the gateway answers with `status`: it changes on the gateway's own schedule, without an event."""
    async with asyncio.timeout(10):
        while (await client.http.get(path, headers=headers)).status_code != status:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@dataclass(frozen=True)
class Frame:
    """One SSE frame as a client reads it."""

    id: str
    event: str
    data: dict[str, Any]


def frames_of(text: str) -> list[Frame]:
    """The frames of a whole stream, without comments."""
    return [_frame(block) for block in text.split("\n\n") if block and not block.startswith(":")]


async def read_frames(response: httpx.Response) -> AsyncIterator[Frame]:
    """The frames of a stream as they come; ends when the stream does."""
    block: list[str] = []
    async for line in response.aiter_lines():
        if line:
            block.append(line)
        elif block:
            if not block[0].startswith(":"):
                yield _frame("\n".join(block))
            block.clear()


def _frame(block: str) -> Frame:
    fields = dict(line.split(": ", 1) for line in block.split("\n"))
    return Frame(fields["id"], fields["event"], orjson.loads(fields["data"]))
