"""The real process: `python -m mesh_gateway serve`, its signals and its error messages."""

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import orjson
from fakes.gateway.fake_runs import answer_begin
from mesh_dev.valkey import EmbeddedValkey
from support.gateway import Client, FakeMesh, read_frames
from support.net import free_port


def _environment(mesh: FakeMesh, valkey: EmbeddedValkey, port: int) -> dict[str, str]:
    return {
        "GATEWAY_SERVICE_KEY": mesh.secrets.service_keys["gateway"],
        "GATEWAY_SERVICE_JWKS_FILE": str(mesh.jwks_file),
        "GATEWAY_METRICS_HOST": "127.0.0.1",
        "GATEWAY_METRICS_PORT": "0",
        "GATEWAY_HTTP_HOST": "127.0.0.1",
        "GATEWAY_HTTP_PORT": str(port),
        "GATEWAY_REDIS_URL": valkey.url,
        "GATEWAY_DRAIN_S": "0.5",
        "GATEWAY_CORS_ORIGINS": '["https://app.example.com"]',
        "GATEWAY_TRUSTED_PROXIES": '["10.0.0.0/8"]',
        **{f"GATEWAY_{name.upper()}_TARGET": f"ipv4:127.0.0.1:{number}" for name, number in mesh.ports.items()},
    }


@asynccontextmanager
async def _serving(environment: dict[str, str]) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mesh_gateway", "serve", env=environment, stdout=PIPE, stderr=PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _line(process: Process, is_wanted: Callable[[dict[str, object]], bool]) -> dict[str, object]:
    assert process.stdout
    async with asyncio.timeout(30):
        async for line in process.stdout:
            fields = orjson.loads(line)
            if is_wanted(fields):
                return dict(fields)
    raise AssertionError("the process ended without the line")


async def test_sigterm_ends_the_process_although_a_stream_is_open(mesh: FakeMesh, valkey: EmbeddedValkey) -> None:
    mesh.agent.plan = answer_begin
    port = free_port()

    async with _serving(_environment(mesh, valkey, port)) as process:
        await _line(process, lambda fields: fields["event"] == "process.started")
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
            user = {"Authorization": f"Bearer {mesh.auth.access_token()}"}
            body = {"message": "my secret words"}
            path = "/api/v1/chatbot/chat/stream?q=private"
            async with http.stream("POST", path, json=body, headers=user) as response:
                frames = read_frames(response)
                first = await anext(frames)
                process.send_signal(signal.SIGTERM)
                rest = [frame.event async for frame in frames]
        served = await _line(process, lambda fields: fields["event"] == "http.served")
        async with asyncio.timeout(15):
            output, errors = await process.communicate()

    assert process.returncode == 0
    assert rest == ["memory_recalled", "message_delta"]
    assert served["run_id"] == first.id.partition(":")[0]
    assert (served["route"], served["status"]) == ("/api/v1/chatbot/chat/stream", 200)
    assert served["service"] == "gateway"
    assert len(str(served["trace_id"])) == 32
    assert "secret words" not in str(served) + output.decode()
    assert "private" not in str(served) + output.decode()
    assert errors == b""


async def test_taken_port_is_one_clear_line(gateway: Client, mesh: FakeMesh, valkey: EmbeddedValkey) -> None:
    async with _serving(_environment(mesh, valkey, gateway.process.port)) as process:
        failed = await _line(process, lambda fields: fields["event"] == "process.failed")
        await process.communicate()

    assert process.returncode == 1
    assert "address already in use" in str(failed).lower()


async def test_every_wrong_setting_is_reported_at_once(tmp_path: Path) -> None:
    environment = {"GATEWAY_HTTP_PORT": "x", "GATEWAY_SERVICE_JWKS_FILE": str(tmp_path / "none")}

    async with _serving(environment) as process:
        _, errors = await process.communicate()

    named = {line.partition(":")[0] for line in errors.decode().splitlines()}
    assert process.returncode == 2
    assert named == {
        "GATEWAY_HTTP_PORT",
        "GATEWAY_SERVICE_JWKS_FILE",
        "GATEWAY_SERVICE_KEY",
        "GATEWAY_REDIS_URL",
    }
