"""Opens everything the gateway needs, in order, and closes it in reverse. Nothing is created at import time."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import grpc
import structlog
import uvicorn
from mesh_common.clock import Clock, SystemClock
from mesh_common.grpc.client import ServiceCalls, open_channel
from mesh_common.grpc.edges import ServiceName
from mesh_common.grpc.service_tokens import ServiceTokenSigner
from mesh_common.jwt import JWTVerifier, SigningKey, TokenType
from mesh_common.process.metrics import metrics_endpoint
from mesh_common.redis import open_redis
from redis.asyncio import Redis
from starlette.types import ASGIApp

from mesh_gateway.app import build_app
from mesh_gateway.clients.agent import AgentClient
from mesh_gateway.clients.auth import AuthClient
from mesh_gateway.clients.backend import Backend
from mesh_gateway.clients.evals import EvalClient
from mesh_gateway.clients.memory import MemoryClient
from mesh_gateway.clients.started_runs import StartedRuns
from mesh_gateway.edge.client_address import ClientAddresses
from mesh_gateway.edge.deps import Gateway
from mesh_gateway.edge.protocol import ConnectionBounds, protocol_within
from mesh_gateway.edge.readiness import Readiness
from mesh_gateway.edge.trace_origin import TraceOrigin
from mesh_gateway.identity.access_tokens import AccessTokens
from mesh_gateway.identity.revocations import Revocations
from mesh_gateway.identity.seal import Seal
from mesh_gateway.identity.signing_keys import SigningKeys
from mesh_gateway.identity.tickets import StreamTickets
from mesh_gateway.limits.address_budget import AddressBudget
from mesh_gateway.limits.rate_limit import RateLimiter
from mesh_gateway.limits.stream_slots import OpenStreams
from mesh_gateway.runs.turn import TurnBounds, Turns
from mesh_gateway.settings import GatewaySettings

log = structlog.get_logger()

_BACKLOG: Final = 2_048
# After open streams are closed, only unary requests remain; they have deadlines of 5 s.
_LAST_ANSWERS_S: Final = 6
# Above the idle timeout of common load balancers (60 s), so that they never reuse a connection that is being closed.
_KEEP_ALIVE_S: Final = 75


@dataclass(frozen=True, slots=True)
class GatewayProcess:
    """A gateway that serves on `port`; `drain` shuts it down gracefully."""

    port: int
    drain: Callable[[], Awaitable[None]]


@asynccontextmanager
async def open_service(settings: GatewaySettings) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    async with open_gateway(settings) as process:
        yield process.drain


@asynccontextmanager
async def open_gateway(settings: GatewaySettings) -> AsyncIterator[GatewayProcess]:
    async with AsyncExitStack() as stack:
        stack.enter_context(metrics_endpoint(settings.metrics_host, settings.metrics_port))
        redis = await stack.enter_async_context(open_redis(settings.redis_url))
        gateway, revocations, started_runs = await _wire(stack, settings, redis)
        # Load keys and revocations before the first request; this returns at once if auth is unavailable.
        await asyncio.gather(gateway.keys.prepare(), revocations.poll())
        sock = stack.enter_context(_listening(settings.http_host, settings.http_port))
        server = _Server(_server_config(TraceOrigin(build_app(gateway), gateway.addresses), settings))
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        watches = (gateway.keys.watch, revocations.watch, started_runs.watch, gateway.limits.watch)
        watchers = [tasks.create_task(watch()) for watch in watches]
        serving = tasks.create_task(server.serve(sockets=[sock]))
        await server.is_started.wait()
        log.info("http.listening", port=sock.getsockname()[1])
        try:
            yield GatewayProcess(sock.getsockname()[1], lambda: _drain(gateway, server, serving))
        finally:
            server.should_exit = True
            server.force_exit = True
            for watcher in watchers:
                watcher.cancel()


async def _drain(gateway: Gateway, server: "_Server", serving: "asyncio.Task[None]") -> None:
    """Becomes unready, gives open streams `drain_s` to end, then closes them; clients reconnect to other replicas."""
    gateway.readiness.drain()
    await gateway.streams.wait_until_idle(gateway.settings.drain_s)
    closed = gateway.streams.close_all()
    if closed:
        log.warning("streams.closed", count=closed)
    server.should_exit = True
    await asyncio.wait({serving})


async def _wire(
    stack: AsyncExitStack, settings: GatewaySettings, redis: Redis
) -> tuple[Gateway, Revocations, StartedRuns]:
    clock = SystemClock()
    key = SigningKey.from_pem(settings.service_key.get_secret_value())
    signer = ServiceTokenSigner("gateway", key)
    started_runs = StartedRuns(
        ServiceCalls("agent", signer), partial(open_channel, tls=settings.tls_to("agent"), shares_connections=False)
    )
    auth, agent, memory, evals = await _open_clients(stack, settings, signer, started_runs, clock)
    token_type: TokenType = "at+jwt"  # noqa: S105 - a type, no secret
    verifier = JWTVerifier({}, token_type=token_type, audience=settings.audience, issuer=settings.issuer)
    keys = SigningKeys(auth, redis, verifier, Seal(key, clock), clock)
    revocations = Revocations(auth, clock)
    limits = RateLimiter(redis, clock)
    streams = OpenStreams(
        max_open=settings.max_open_streams,
        max_per_user=settings.max_streams_per_user,
        is_revoked=revocations.is_revoked,
    )
    revocations.when_revoked(streams.end_session)
    bounds = TurnBounds(settings.chat_limit_per_minute, settings.call_timeout_s, settings.wait_timeout_s)
    gateway = Gateway(
        settings=settings,
        auth=auth,
        agent=agent,
        memory=memory,
        evals=evals,
        turns=Turns(agent, limits, streams, bounds),
        keys=keys,
        tokens=AccessTokens(verifier, keys, revocations),
        limits=limits,
        invalid_tokens=AddressBudget("invalid-tokens", settings.anonymous_limit_per_minute, clock),
        documents=AddressBudget("documents", settings.anonymous_limit_per_minute, clock),
        streams=streams,
        tickets=StreamTickets(redis, revocations, clock, key),
        addresses=ClientAddresses(settings.trusted_proxies, hops=settings.trusted_proxy_hops),
        readiness=Readiness(keys),
    )
    return gateway, revocations, started_runs


async def _open_clients(
    stack: AsyncExitStack,
    settings: GatewaySettings,
    signer: ServiceTokenSigner,
    started_runs: StartedRuns,
    clock: Clock,
) -> tuple[AuthClient, AgentClient, MemoryClient, EvalClient]:
    def backend(callee: ServiceName) -> Backend:
        return Backend(ServiceCalls(callee, signer), settings.call_timeout_s)

    async def channel_to(callee: ServiceName, target: str) -> grpc.aio.Channel:
        return await stack.enter_async_context(open_channel(target, tls=settings.tls_to(callee)))

    auth = await channel_to("auth", settings.auth_target)
    agent = await channel_to("agent", settings.agent_target)
    memory = await channel_to("memory", settings.memory_target)
    evals = await channel_to("eval", settings.eval_target)
    return (
        AuthClient(backend("auth"), auth, login_timeout_s=settings.login_timeout_s, clock=clock),
        AgentClient(backend("agent"), agent, started_runs, start_timeout_s=settings.start_timeout_s),
        MemoryClient(backend("memory"), memory),
        EvalClient(backend("eval"), evals),
    )


def _server_config(app: ASGIApp, settings: GatewaySettings) -> uvicorn.Config:
    bounds = ConnectionBounds(
        header_timeout_s=settings.header_timeout_s,
        write_timeout_s=settings.write_timeout_s,
        max_connections=settings.max_connections,
    )
    return uvicorn.Config(
        app,
        # The loop is already running (uvloop, started by mesh_common.process.serve).
        loop="none",
        http=protocol_within(bounds),
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        # uvicorn would trust X-Forwarded-For from loopback; we trust only our own proxies.
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        # Without it, uvicorn waits for open streams forever.
        timeout_graceful_shutdown=_LAST_ANSWERS_S,
    )


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling, which mesh_common.process.serve does; an event reports the start."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_started = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_started.set()


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    # Bound here, because uvicorn exits the process without our error message if the port is in use.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    try:
        yield sock
    finally:
        sock.close()
