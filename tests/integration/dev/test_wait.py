import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from mesh_dev.errors import ChildDiedError, NotReadyError
from mesh_dev.process import ChildProcess, Program
from mesh_dev.wait import Waiter, grpc_serving, http_healthy, tcp_accepts
from support.net import free_port


@asynccontextmanager
async def http_server(status_line: str) -> AsyncIterator[int]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status_line}\r\nContent-Length: 0\r\n\r\n".encode())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_waits_until_the_probe_succeeds_and_says_so_each_second() -> None:
    lines: list[str] = []
    answers = iter([False] * 25)

    async def probe() -> bool:
        return next(answers, True)

    took_s = await Waiter(say=lines.append).ready("agent", probe)

    assert took_s > 1
    assert [line.split("…")[0] for line in lines] == ["waiting for agent "]


async def test_deadline_gives_one_clear_line() -> None:
    with pytest.raises(NotReadyError, match=r"^agent is not ready after 0\.\d s$"):
        await Waiter(deadline_s=0.1).ready("agent", tcp_accepts(free_port()))


async def test_dead_child_ends_the_wait_at_once(tmp_path: Path) -> None:
    child = ChildProcess(
        Program(name="agent", argv=[sys.executable, "-c", "raise SystemExit('no database')"]), tmp_path
    )
    await child.start()

    with pytest.raises(ChildDiedError, match="agent ended with exit code 1: no database"):
        await Waiter(deadline_s=30).ready("agent", tcp_accepts(free_port()), child)


async def test_http_is_healthy_only_at_200() -> None:
    async with http_server("200 OK") as healthy, http_server("503 Service Unavailable") as loading:
        await Waiter().ready("model", http_healthy(healthy))

        assert not await http_healthy(loading)()


async def test_grpc_is_ready_only_when_the_named_service_serves() -> None:
    health = health_aio.HealthServicer()
    await health.set("readiness", health_pb2.HealthCheckResponse.NOT_SERVING)
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    was_ready = await grpc_serving(port, "readiness")()
    await health.set("readiness", health_pb2.HealthCheckResponse.SERVING)
    await Waiter().ready("agent", grpc_serving(port, "readiness"))
    await server.stop(None)

    assert not was_ready
    with pytest.raises(NotReadyError):
        await Waiter(deadline_s=0.1).ready("agent", grpc_serving(port, "readiness"))
