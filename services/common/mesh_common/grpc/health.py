"""Health under two names (grpc.health.v1): readiness checks the dependencies and the drain, liveness checks nothing.

The empty name means readiness, for probes that name no service.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog
from grpc_health.v1 import health, health_pb2

log = structlog.get_logger()

READINESS: Final = "readiness"
LIVENESS: Final = "liveness"
_PERIOD_S = 2.0

ReadinessCheck = Callable[[], Awaitable[str | None]]
"""None if the dependency works, else a short reason in plain English. Must have a deadline of its own."""


class Health:
    """Owns the health service's state; `watch` runs until cancelled, `drain` makes the service unready permanently."""

    def __init__(self, checks: Sequence[ReadinessCheck]) -> None:
        self.servicer = health.aio.HealthServicer()
        self._checks = tuple(checks)
        self._is_draining = False
        self._reason: str | None = "starting"

    async def watch(self) -> None:
        await self.servicer.set(LIVENESS, health_pb2.HealthCheckResponse.SERVING)
        while True:
            await self.check_once()
            await asyncio.sleep(_PERIOD_S)

    async def check_once(self) -> None:
        reasons = [reason for check in self._checks if (reason := await check())]
        await self._set("draining" if self._is_draining else reasons[0] if reasons else None)

    async def drain(self) -> None:
        self._is_draining = True
        await self._set("draining")

    async def _set(self, reason: str | None) -> None:
        if reason != self._reason:
            log.info("health.changed", ready=reason is None, reason=reason)
        self._reason = reason
        status = health_pb2.HealthCheckResponse.NOT_SERVING if reason else health_pb2.HealthCheckResponse.SERVING
        for name in ("", READINESS):
            await self.servicer.set(name, status)
