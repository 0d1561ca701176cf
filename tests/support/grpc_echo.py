"""A service of the mesh whose behaviour a test scripts, behind the real boundary on a real port."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from mesh.agent.v1 import agent_pb2, agent_pb2_grpc
from mesh.eval.v1 import eval_pb2, eval_pb2_grpc
from mesh_admin.secrets import SecretSet
from mesh_common.grpc.boundary import BoundaryInterceptor
from mesh_common.grpc.client import ServiceCalls, open_channel
from mesh_common.grpc.server import PING_POLICY
from mesh_common.grpc.service_tokens import ServiceTokenSigner, ServiceTokenVerifier
from mesh_common.jwt import SigningKey, parse_jwks

Context = grpc.aio.ServicerContext[Any, Any]


async def _nothing() -> None:
    return


@dataclass
class Script:
    """`unary` runs in ListScores, `stream` in FollowRun; `was_cancelled` is set when FollowRun's caller disconnects."""

    unary: Callable[[], Awaitable[object]] = _nothing
    events: int = 3
    event_bytes: int = 1
    stream: Callable[[], Awaitable[object]] = _nothing
    """Runs after the events."""
    was_cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    sent: int = 0


class _Eval(eval_pb2_grpc.EvalServiceServicer):
    def __init__(self, script: Script) -> None:
        self._script = script

    async def ListScores(  # noqa: N802 - gRPC's name
        self, _request: eval_pb2.ListScoresRequest, _context: Context
    ) -> eval_pb2.ListScoresResponse:
        await self._script.unary()
        return eval_pb2.ListScoresResponse(is_pending=True)


class _Agent(agent_pb2_grpc.AgentServiceServicer):
    def __init__(self, script: Script) -> None:
        self._script = script

    async def FollowRun(  # noqa: N802 - gRPC's name
        self, _request: agent_pb2.FollowRunRequest, _context: Context
    ) -> AsyncIterator[agent_pb2.FollowRunResponse]:
        try:
            for seq in range(1, self._script.events + 1):
                self._script.sent = seq
                delta = agent_pb2.MessageDelta(text="x" * self._script.event_bytes)
                yield agent_pb2.FollowRunResponse(event=agent_pb2.RunEvent(seq=seq, message_delta=delta))
            await self._script.stream()
        finally:
            self._script.was_cancelled.set()


@dataclass(frozen=True)
class Echo:
    secrets: SecretSet
    port: int
    script: Script
    evals: Any
    agents: Any

    def calls(self, callee: str, *, caller: str = "gateway", key_of: str | None = None) -> ServiceCalls:
        """Calls that claim to come from `caller`, signed with the key of `key_of` (by default the caller's)."""
        key = SigningKey.from_pem(self.secrets.service_keys[key_of or caller])
        return ServiceCalls(callee=callee, signer=ServiceTokenSigner(caller, key))


@asynccontextmanager
async def open_echo(secrets: SecretSet, *, service: str, max_concurrent_rpcs: int | None = None) -> AsyncIterator[Echo]:
    """Serves as `service` (eval or agent), which is the audience of the tokens that it accepts."""
    script = Script()
    verifier = ServiceTokenVerifier(parse_jwks(secrets.service_jwks()), service=service)
    server = grpc.aio.server(
        interceptors=[BoundaryInterceptor(verifier)],
        options=PING_POLICY,
        maximum_concurrent_rpcs=max_concurrent_rpcs,
    )
    eval_pb2_grpc.add_EvalServiceServicer_to_server(_Eval(script), server)  # type: ignore[abstract]  # the rest is never called
    agent_pb2_grpc.add_AgentServiceServicer_to_server(_Agent(script), server)  # type: ignore[abstract]  # the same
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with open_channel(f"127.0.0.1:{port}") as channel:
        yield Echo(
            secrets, port, script, eval_pb2_grpc.EvalServiceStub(channel), agent_pb2_grpc.AgentServiceStub(channel)
        )
    await server.stop(None)
