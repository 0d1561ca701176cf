"""Calls to one other service: their deadline, and whether a refusal concerns the gateway or the user."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final

import grpc
import structlog
from google.protobuf.message import Message
from mesh_common.errors import Internal, MeshError, PermissionDenied, Unauthenticated
from mesh_common.grpc.client import ServerStream, ServiceCalls
from mesh_common.subject import Subject

log = structlog.get_logger()

# Reasons with which the other service rejects the gateway, not the user.
_ABOUT_US: Final = frozenset({"SERVICE_TOKEN_REQUIRED", "USER_REQUIRED", "SUBJECT_INVALID", "EDGE_NOT_ALLOWED"})


@dataclass(frozen=True, slots=True)
class Backend:
    """`timeout_s` is the deadline of a unary call."""

    calls: ServiceCalls
    timeout_s: float

    async def unary[Q: Message, R: Message](
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Q, R],
        request: Q,
        *,
        subject: Subject | None = None,
        timeout_s: float | None = None,
        checks_credentials: bool = False,
    ) -> R:
        """`checks_credentials`: a refusal may concern the user's credentials and is passed on."""
        with self._refusals_are_ours(checks_credentials=checks_credentials):
            return await self.calls.unary(method, request, timeout_s=timeout_s or self.timeout_s, subject=subject)

    @asynccontextmanager
    async def stream[Q: Message, R: Message](
        self, method: grpc.aio.UnaryStreamMultiCallable[Q, R], request: Q, *, subject: Subject
    ) -> AsyncIterator[ServerStream[R]]:
        with self._refusals_are_ours(checks_credentials=False):
            async with self.calls.stream(method, request, timeout_s=None, subject=subject) as stream:
                yield stream

    @contextmanager
    def _refusals_are_ours(self, *, checks_credentials: bool) -> Iterator[None]:
        """If a service rejects the gateway's own token, the user must not be asked to log in again."""
        try:
            yield
        except (Unauthenticated, PermissionDenied) as error:
            if error.reason in _ABOUT_US or (isinstance(error, Unauthenticated) and not checks_credentials):
                raise self._fault_of_ours(error) from error
            raise

    def _fault_of_ours(self, error: MeshError) -> MeshError:
        log.error("backend.refused_us", callee=self.calls.callee, reason=error.reason)
        return Internal("Something went wrong on our side.")
