"""The edge of every gRPC service: checks the caller, the subject and the deadline, and translates errors.

One interceptor does all of it, in this order: trace, service token, allowed edge, subject, deadline, the servicer,
errors, one log line, metrics. It catches every exception, as HTTP's boundary (the gateway's observer) does. Apart from
these two, only the agent's execution and the job worker do, so that a failing run or job does not affect others.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager, suppress
from typing import Any, Final
from uuid import UUID

import grpc
import structlog
from google.protobuf.message import Message
from opentelemetry import context as otel_context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from mesh_common.caller import Caller, acting
from mesh_common.errors import Internal, MeshError, PermissionDenied, Unauthenticated
from mesh_common.grpc.client import SUBJECT_METADATA, USER_METADATA
from mesh_common.grpc.edges import callers_of
from mesh_common.grpc.error_wire import EDGE_NOT_ALLOWED, code_of, to_status
from mesh_common.grpc.service_tokens import ServiceTokenVerifier
from mesh_common.ids import UserId
from mesh_common.process.metrics import RPC_SERVER_MESSAGES, RPC_SERVER_OPEN, RPC_SERVER_SECONDS
from mesh_common.process.telemetry import restored_context, tracer
from mesh_common.subject import Subject, parse_subject

log = structlog.get_logger()

# For probes and tools. No user's data is reachable through these services.
_OPEN_PREFIXES: Final = ("/grpc.health.v1.Health/", "/grpc.reflection.")
_SERVER_FAULTS: Final = frozenset({"INTERNAL", "UNKNOWN", "UNAVAILABLE"})

Context = grpc.aio.ServicerContext[Any, Any]
type Handler = grpc.RpcMethodHandler[Any, Any]  # lazy, because it is generic only in grpcio's stubs


class BoundaryInterceptor(grpc.aio.ServerInterceptor):
    def __init__(self, verifier: ServiceTokenVerifier) -> None:
        self._verifier = verifier

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith(_OPEN_PREFIXES):
            return handler
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(
                self._unary(method, handler.unary_unary), handler.request_deserializer, handler.response_serializer
            )
        return grpc.unary_stream_rpc_method_handler(
            self._stream(method, handler.unary_stream), handler.request_deserializer, handler.response_serializer
        )

    def _unary(self, method: str, behaviour: Any) -> Any:
        async def serve(request: Message, context: Context) -> Message | None:
            call = _Call(method, context)
            with call.observed():
                try:
                    with acting(self._caller(method, context)):
                        response: Message = await behaviour(request, context)
                        call.sent()
                        return response
                except Exception as error:  # noqa: BLE001 - the boundary
                    call.failed(error)
            await call.abort()
            return None

        return serve

    def _stream(self, method: str, behaviour: Any) -> Any:
        # Writes instead of yielding: if the caller disconnects, grpc leaves a generator to the garbage collector, which
        # closes it later and in another context, where neither the caller nor the span can be reset.
        async def serve(request: Message, context: Context) -> None:
            call = _Call(method, context)
            with call.observed():
                try:
                    with acting(self._caller(method, context)):
                        async with aclosing(behaviour(request, context)) as responses:
                            async for response in responses:
                                await context.write(response)
                                call.sent()
                except Exception as error:  # noqa: BLE001 - the boundary
                    call.failed(error)
            if call.error:
                await call.abort()

        return serve

    def _caller(self, method: str, context: Context) -> Caller:
        metadata = _metadata(context)
        scheme, _, token = metadata.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("A service token is required.", reason="SERVICE_TOKEN_REQUIRED")
        service = self._verifier.service_of(token)
        if service not in callers_of(method):
            raise PermissionDenied(f"{service} may not call {method}.", reason=EDGE_NOT_ALLOWED)
        left_s = context.time_remaining()
        # This is None for a call without a deadline; the stubs omit that.
        deadline_s = None if left_s is None else time.monotonic() + left_s  # type: ignore[redundant-expr]
        return Caller(service, _subject(metadata), deadline_s)


class _Call:
    """The span, log line and metrics of one call being served."""

    def __init__(self, method: str, context: Context) -> None:
        self._rpc = method.removeprefix("/")
        self._context = context
        self._span: Span | None = None
        self._messages = RPC_SERVER_MESSAGES.labels(self._rpc)
        self.error: MeshError | None = None

    def sent(self) -> None:
        """Counts the response now, not at the end: a stream may be open for minutes."""
        self._messages.inc()

    @contextmanager
    def observed(self) -> Iterator[None]:
        started_s = time.perf_counter()
        token = otel_context.attach(restored_context(_metadata(self._context)))
        open_calls = RPC_SERVER_OPEN.labels(self._rpc)
        open_calls.inc()
        self._messages.inc()  # the request
        code = "CANCELLED"
        try:
            with tracer.start_as_current_span(
                self._rpc, kind=SpanKind.SERVER, record_exception=False, set_status_on_exception=False
            ) as span:
                self._span = span
                yield
                code = code_of(self.error).name if self.error else "OK"
                self._log(code, time.perf_counter() - started_s)
        except asyncio.CancelledError:
            self._log(code, time.perf_counter() - started_s)
            raise
        finally:
            open_calls.dec()
            RPC_SERVER_SECONDS.labels(self._rpc, code).observe(time.perf_counter() - started_s)
            otel_context.detach(token)

    def failed(self, error: Exception) -> None:
        """Keeps a MeshError. Logs any other error with its text, which never leaves the process."""
        if isinstance(error, MeshError):
            self.error = error
        else:
            log.error("rpc.crashed", rpc=self._rpc, exc_info=error)
            self.error = Internal("Something went wrong on our side.")
        if self._span:
            self._span.set_status(Status(StatusCode.ERROR, self.error.reason))

    async def abort(self) -> None:
        """Ends the call with its error. gRPC raises the AbortError again when the servicer's coroutine has returned."""
        with suppress(grpc.aio.AbortError):
            await self._context.abort_with_status(
                to_status(self.error or Internal("Something went wrong on our side."))
            )

    def _log(self, code: str, seconds: float) -> None:
        level = log.warning if code in _SERVER_FAULTS else log.info
        reason = {"reason": self.error.reason} if self.error else {}
        level("rpc.served", rpc=self._rpc, code=code, ms=round(seconds * 1000, 1), **reason)


def _metadata(context: Context) -> Mapping[str, str]:
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}


def _subject(metadata: Mapping[str, str]) -> Subject | None:
    """The subject of the call. Release 0.1.0 sends only the user, which means their personal organisation."""
    user = _user(metadata)
    text = metadata.get(SUBJECT_METADATA)
    if text is None:
        return None if user is None else Subject.personal(user)
    try:
        subject = parse_subject(text)
    except ValueError:
        raise Unauthenticated("The subject acted for is malformed.", reason="SUBJECT_INVALID") from None
    if user is not None and user != subject.user_id:
        raise Unauthenticated("The call names two users.", reason="SUBJECT_INVALID")
    return subject


def _user(metadata: Mapping[str, str]) -> UserId | None:
    text = metadata.get(USER_METADATA)
    if text is None:
        return None
    try:
        return UserId(UUID(text))
    except ValueError:
        raise Unauthenticated("The user acted for is not a UUID.", reason="USER_REQUIRED") from None
