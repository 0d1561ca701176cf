"""Waits until a part answers, with a progress line per second and a deadline."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mesh_dev.errors import ChildDiedError, NotReadyError
from mesh_dev.process import ChildProcess

LOOPBACK = "127.0.0.1"
HTTP_OK = 200
PROBE_INTERVAL_S = 0.05
PROBE_TIMEOUT_S = 2.0
PROGRESS_INTERVAL_S = 1.0

type Probe = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Waiter:
    """Waits for probes to succeed and reports progress."""

    say: Callable[[str], None] = print
    deadline_s: float = 60.0
    probe_interval_s: float = PROBE_INTERVAL_S
    progress_interval_s: float = PROGRESS_INTERVAL_S

    async def ready(self, what: str, probe: Probe, child: ChildProcess | None = None) -> float:
        """Returns the seconds until `probe` succeeded.

        Raises:
            ChildDiedError: the process that should answer has ended.
            NotReadyError: the deadline has passed.
        """
        started = time.monotonic()
        next_line_s = self.progress_interval_s
        while not await _succeeds(probe):
            waited_s = time.monotonic() - started
            if child is not None and not child.is_running:
                raise ChildDiedError(child.obituary())
            if waited_s >= self.deadline_s:
                raise NotReadyError(_too_late(what, waited_s, child))
            if waited_s >= next_line_s:
                self.say(f"waiting for {what} … {waited_s:.1f} s")
                next_line_s += self.progress_interval_s
            await asyncio.sleep(self.probe_interval_s)
        return time.monotonic() - started


def tcp_accepts(port: int) -> Probe:
    """A probe that succeeds if the loopback port accepts connections."""

    async def probe() -> bool:
        _, writer = await asyncio.open_connection(LOOPBACK, port)
        writer.close()
        return True

    return probe


def http_healthy(port: int, path: str = "/health") -> Probe:
    """A probe that succeeds if a GET of the path returns 200."""
    request = f"GET {path} HTTP/1.1\r\nHost: {LOOPBACK}:{port}\r\nConnection: close\r\n\r\n".encode()

    async def probe() -> bool:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        try:
            writer.write(request)
            status_line = await reader.readline()
        finally:
            writer.close()
        return status_line.split()[1:2] == [str(HTTP_OK).encode()]

    return probe


def grpc_serving(port: int, service: str = "") -> Probe:
    """A probe that succeeds if the gRPC health service reports SERVING. The service "" is the complete server."""

    async def probe() -> bool:
        # Not mesh_common's channel, which retries and balances: a probe needs one address and its current state.
        async with grpc.aio.insecure_channel(f"{LOOPBACK}:{port}") as channel:  # noqa: TID251
            stub = health_pb2_grpc.HealthStub(channel)
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=PROBE_TIMEOUT_S)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    return probe


async def _succeeds(probe: Probe) -> bool:
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            return await probe()
    except (OSError, grpc.aio.AioRpcError):  # TimeoutError is an OSError
        return False


def _too_late(what: str, waited_s: float, child: ChildProcess | None) -> str:
    line = f"{what} is not ready after {waited_s:.1f} s"
    return line if child is None else f"{line}: {child.last_log_line()} (log: {child.log_path})"
