"""The client that all calls between services use: channel, service token, subject, deadline, trace, errors, metric."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import grpc
import orjson
from google.protobuf.message import Message
from opentelemetry import propagate
from opentelemetry.trace import SpanKind, Status, StatusCode

from mesh_common.caller import current_subject, remaining_s
from mesh_common.errors import MeshError
from mesh_common.grpc.error_wire import code_of, from_rpc_error
from mesh_common.grpc.message_size import MESSAGE_SIZE_OPTIONS
from mesh_common.grpc.service_tokens import ServiceTokenSigner
from mesh_common.grpc.tls import RenewingChannel, channel_credentials
from mesh_common.process.metrics import RPC_CLIENT_SECONDS
from mesh_common.process.telemetry import tracer
from mesh_common.process.tls_files import ChannelTls, TlsMaterial
from mesh_common.subject import Subject

USER_METADATA: Final = "mesh-on-behalf-of"
"""The user id, which is all that release 0.1.0 sends and reads. The next release no longer sends it."""
SUBJECT_METADATA: Final = "mesh-subject"
Metadata = tuple[tuple[str, str], ...]

# The channel retries these on UNAVAILABLE: they change nothing or are idempotent by an id.
_IDEMPOTENT: Final = (
    (
        "mesh.auth.v1.AuthService",
        (
            "GetSigningKeys",
            "ListRevocations",
            "GetUser",
            "GetEntitlements",
            "RecordUsage",
            "RecordUsageBatch",
            "GetUsage",
            "Logout",
        ),
    ),
    (
        "mesh.agent.v1.AgentService",
        (
            "StartRun",
            "FollowRun",
            "CancelRun",
            "GetRun",
            "ListRuns",
            "GetThread",
            "ListThreads",
            "ListMessages",
            "ListModels",
            "ListInterrupts",
            "DeleteThread",
        ),
    ),
    (
        "mesh.memory.v1.MemoryService",
        ("Recall", "Remember", "GetMemory", "ListMemories", "SearchMemories", "DeleteAllMemories"),
    ),
    ("mesh.eval.v1.EvalService", ("SubmitRun", "ListScores")),
)
_SERVICE_CONFIG: Final = orjson.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        # Retries end when more than 50 calls have failed that no successes made up for: a peer that only fails gets
        # each call once, and a replica that restarts under load still has its calls repeated elsewhere.
        "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
        "methodConfig": [
            {
                "name": [{"service": service, "method": method} for method in methods],
                "retryPolicy": {
                    "maxAttempts": 3,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "0.5s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
            for service, methods in _IDEMPOTENT
        ],
    }
).decode()
_CHANNEL_OPTIONS: Final = (
    ("grpc.service_config", _SERVICE_CONFIG),
    ("grpc.enable_retries", 1),
    # A severed network sends no reset, and a frozen peer sends nothing. Pings tell both apart from a silent model,
    # within 4.5 s. That is less than the 5 s of a unary call, which is then retried at another replica, and less than
    # the 10 s of a takeover.
    ("grpc.keepalive_time_ms", 2_000),
    ("grpc.http2.ping_timeout_ms", 2_500),
    # The documented name; the core never starts its timer (1.85.1: https://github.com/grpc/grpc/pull/39239).
    ("grpc.keepalive_timeout_ms", 2_500),
    ("grpc.keepalive_permit_without_calls", 1),
    # Otherwise the core pings twice and then waits for data, which a silent run does not send.
    ("grpc.http2.max_pings_without_data", 0),
    # Reconnect to a restarting peer at once, not after gRPC's 20 s to 2 min.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # The time that one connection attempt may take: a frozen peer uses all of it, a busy one needs some.
    ("grpc.min_reconnect_backoff_ms", 1_000),
    # All replicas may be new since the last DNS query. By default gRPC waits 30 s between queries; meanwhile a client
    # could have no replica to call.
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    # Connect directly, whatever HTTP proxy the environment names.
    ("grpc.enable_http_proxy", 0),
)


def open_channel(
    target: str,
    *,
    tls: ChannelTls | None = None,
    shares_connections: bool = True,
) -> grpc.aio.Channel:
    """A channel to all replicas behind `target` (`dns:///name:port`, or `ipv4:…`). The caller closes it.

    With `tls`, both sides present certificates, and the peer must be the service that `tls` names, whatever its
    address. `shares_connections`: channels to the same address share one connection, which may be an old one.
    """
    options: tuple[tuple[str, Any], ...] = (
        *_CHANNEL_OPTIONS,
        *MESSAGE_SIZE_OPTIONS,
        ("grpc.use_local_subchannel_pool", int(not shares_connections)),
    )
    if tls is None:
        return grpc.aio.insecure_channel(target, options=options)  # noqa: TID251 - the only place

    def open_with(material: TlsMaterial) -> grpc.aio.Channel:
        return grpc.aio.secure_channel(target, channel_credentials(material), options=(*options, *tls.options()))

    return RenewingChannel(open_with, tls.files)


@dataclass(frozen=True, slots=True)
class ServiceCalls:
    """Calls from this service to one other (`callee`: auth, agent, memory or eval).

    A call acts for the subject of the call being served. Work outside a request passes a `subject`.
    """

    callee: str
    signer: ServiceTokenSigner

    async def unary[Q: Message, R: Message](
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Q, R],
        request: Q,
        *,
        timeout_s: float,
        subject: Subject | None = None,
    ) -> R:
        """The response, within `timeout_s` and the caller's own deadline. Raises the callee's MeshError."""
        with self._observed(request) as headers:
            return await method(request, timeout=remaining_s(timeout_s), metadata=self._metadata(headers, subject))

    @asynccontextmanager
    async def stream[Q: Message, R: Message](
        self,
        method: grpc.aio.UnaryStreamMultiCallable[Q, R],
        request: Q,
        *,
        timeout_s: float | None,
        subject: Subject | None = None,
    ) -> AsyncIterator["ServerStream[R]"]:
        """An open stream, cancelled at the end of the block. `timeout_s` None: without a deadline.

        Reading raises the MeshError of the callee.
        """
        with self._observed(request) as headers:
            timeout = None if timeout_s is None else remaining_s(timeout_s)
            call = method(request, timeout=timeout, metadata=self._metadata(headers, subject))
            try:
                yield ServerStream(call)
            finally:
                call.cancel()

    def _metadata(self, headers: dict[str, str], subject: Subject | None) -> Metadata:
        acts_for = subject or current_subject()
        on_behalf = ((USER_METADATA, str(acts_for.user_id)), (SUBJECT_METADATA, acts_for.as_text())) if acts_for else ()
        token = ("authorization", f"Bearer {self.signer.token_for(self.callee)}")
        return (token, *on_behalf, *headers.items())

    def _observed(self, request: Message) -> "_Observed":
        return _Observed(self._rpc_name(request))

    def _rpc_name(self, request: Message) -> str:
        # buf's STANDARD rules require that the request of RPC `Verb` is `VerbRequest`.
        verb = request.DESCRIPTOR.name.removesuffix("Request")
        return f"mesh.{self.callee}.v1.{self.callee.capitalize()}Service/{verb}"


class _Observed:
    """The span and the metric of one outgoing call. Raises the callee's error as a MeshError."""

    def __init__(self, rpc: str) -> None:
        self._rpc = rpc
        self._started_s = time.perf_counter()
        self._scope = tracer.start_as_current_span(
            rpc, kind=SpanKind.CLIENT, record_exception=False, set_status_on_exception=False
        )

    def __enter__(self) -> dict[str, str]:
        """Headers that propagate the trace."""
        self._span = self._scope.__enter__()
        headers: dict[str, str] = {}
        propagate.inject(headers)
        return headers

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        code = "CANCELLED" if isinstance(error, asyncio.CancelledError) else "OK"
        if isinstance(error, (grpc.aio.AioRpcError, MeshError)):
            code = (error.code() if isinstance(error, grpc.aio.AioRpcError) else code_of(error)).name
            self._span.set_status(Status(StatusCode.ERROR, code))
        self._scope.__exit__(None, None, None)
        RPC_CLIENT_SECONDS.labels(self._rpc, code).observe(time.perf_counter() - self._started_s)
        if isinstance(error, grpc.aio.AioRpcError):
            raise from_rpc_error(error) from error


class ServerStream[R: Message]:
    """The responses of one streaming call. Reading raises the callee's MeshError."""

    def __init__(self, call: grpc.aio.UnaryStreamCall[Any, R]) -> None:
        self._call = call

    async def initial_metadata(self) -> dict[str, str]:
        """The metadata sent before the first response. If there is none, raises the callee's MeshError."""
        metadata = {key: value for key, value in await self._call.initial_metadata() if isinstance(value, str)}
        if not metadata and self._call.done():
            await self._raise_status()
        return metadata

    def cancel(self) -> None:
        """Ends the call before the end of its block."""
        self._call.cancel()

    async def __aiter__(self) -> AsyncIterator[R]:
        try:
            async for response in self._call:
                yield response
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error

    async def _raise_status(self) -> None:
        try:
            await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
