"""Services as the first process of a container, which the kernel sends no signal without a handler."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from mesh_common.grpc.client import open_channel
from support.mesh import TestMesh
from support.net import free_port

# The process is number 1 in a process namespace of its own; nothing else on the machine changes.
_AS_FIRST = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child")


def can_be_first() -> bool:
    return shutil.which("unshare") is not None and subprocess.run((*_AS_FIRST, "true"), check=False).returncode == 0


pytestmark = pytest.mark.skipif(not can_be_first(), reason="needs unshare, and namespaces that it may make")


@asynccontextmanager
async def first_process(*arguments: str, env: Mapping[str, str]) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        *_AS_FIRST, sys.executable, "-m", *arguments, env=dict(env), stdout=PIPE, stderr=PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def terminate(outer: Process) -> tuple[int | None, str, float]:
    """Sends SIGTERM to the first process. Returns its exit code, its output, and the seconds until its end."""
    children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
    started_s = time.monotonic()
    os.kill(int(children[0]), signal.SIGTERM)
    async with asyncio.timeout(30):
        output, errors = await outer.communicate()
    return outer.returncode, (output + errors).decode(), time.monotonic() - started_s


async def test_migration_ends_at_once() -> None:
    """Otherwise Kubernetes would wait for the whole grace period with each deleted Job."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(0)
        url = f"postgresql://eval_owner:pw@127.0.0.1:{silent.getsockname()[1]}/mesh"
        async with first_process("mesh_eval", "migrate", env={"EVAL_OWNER_DATABASE_URL": url}) as process:
            async with asyncio.timeout(60):
                connection, _ = await asyncio.get_running_loop().sock_accept(silent)
            code, said, took_s = await terminate(process)
            connection.close()

    assert code == 128 + signal.SIGTERM, said
    assert took_s < 5
    assert "Traceback" not in said


async def test_service_drains_and_ends_with_0(test_mesh: TestMesh) -> None:
    health_port = free_port()
    env = {
        **test_mesh.environment("eval"),
        "EVAL_GRPC_PORT": str(free_port()),
        "EVAL_GRPC_HEALTH_PORT": str(health_port),
        "EVAL_DRAIN_S": "5",
    }

    async with first_process("mesh_eval", "serve", env=env) as process:
        async with asyncio.timeout(60), open_channel(f"127.0.0.1:{health_port}") as channel:
            request = health_pb2.HealthCheckRequest(service="liveness")
            answer = await health_pb2_grpc.HealthStub(channel).Check(request, wait_for_ready=True)
        code, said, took_s = await terminate(process)

    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert code == 0, said
    assert '"event":"process.draining"' in said
    assert '"event":"process.stopped"' in said
    assert took_s < 10
