"""Clients that send nothing, read nothing, or connect in large numbers."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import pytest
from fakes.gateway.fake_runs import FakeRun
from mesh.agent.v1 import agent_pb2
from mesh_dev.valkey import EmbeddedValkey
from support.gateway import Client, FakeMesh, eventually, frames_of, running_gateway

STREAM = "/api/v1/chatbot/chat/stream"
WHOLE = b"GET /healthz HTTP/1.1\r\nHost: mesh\r\n\r\n"
ANSWER = b'{"status":"ok","reason":null}'

type Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def _connected(gateway: Client) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.process.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def _rest(reader: asyncio.StreamReader) -> bytes:
    """The bytes received until the gateway closes the connection."""
    async with asyncio.timeout(5):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


async def _asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(WHOLE)
    await reader.readuntil(ANSWER)


@pytest.fixture
async def impatient(mesh: FakeMesh, valkey: EmbeddedValkey) -> AsyncIterator[Client]:
    async with running_gateway(mesh, valkey.url, header_timeout_s=0.2) as client:
        yield client


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: me", b"\r\n"], ids=["nothing", "half", "blank"])
async def test_headers_that_do_not_come_end_the_connection(impatient: Client, sent: bytes) -> None:
    async with _connected(impatient) as (reader, writer):
        writer.write(sent)
        rest = await _rest(reader)

    assert rest == b""


@pytest.mark.parametrize("sent", [b"GET /heal", b"\r\n"], ids=["half", "blank"])
async def test_second_request_that_does_not_come_whole_ends_the_connection(impatient: Client, sent: bytes) -> None:
    async with _connected(impatient) as (reader, writer):
        await _asked(reader, writer)
        writer.write(sent)
        rest = await _rest(reader)

    assert rest == b""


async def test_headers_that_trickle_do_not_move_the_deadline(impatient: Client) -> None:
    async def trickle(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"a: b\r\n")
            await asyncio.sleep(0.02)

    async with _connected(impatient) as (reader, writer), asyncio.TaskGroup() as group:
        writer.write(b"GET /healthz HTTP/1.1\r\n")
        trickling = group.create_task(trickle(writer))
        rest = await _rest(reader)
        trickling.cancel()

    assert rest == b""


async def test_idle_connection_outlives_the_header_deadline(impatient: Client) -> None:
    async with _connected(impatient) as (reader, writer):
        await _asked(reader, writer)

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.6):
                await reader.read()


async def test_long_answer_outlives_the_header_deadline(impatient: Client) -> None:
    agent = impatient.mesh.agent

    async def slow(run: FakeRun) -> None:
        asyncio.get_running_loop().call_later(0.6, agent.release.set)
        await agent.release.wait()
        await run.write(run_finished=agent_pb2.RunFinished(finish_reason="stop"))

    agent.plan = slow

    response = await impatient.http.post(STREAM, json={"message": "Hi"}, headers=impatient.as_user())

    assert "run_finished" in response.text


async def test_client_that_does_not_read_loses_its_stream(mesh: FakeMesh, valkey: EmbeddedValkey) -> None:
    async def endless(run: FakeRun) -> None:
        while not mesh.agent.follow_ended.is_set():
            await run.write(message_delta=agent_pb2.MessageDelta(message_id=run.id, text="a" * 100_000))
            await asyncio.sleep(0)

    mesh.agent.plan = endless
    body = b'{"message": "Hi"}'

    async with running_gateway(mesh, valkey.url, write_timeout_s=0.3, max_open_streams=1) as gateway:
        token = gateway.as_user()["Authorization"]
        head = (
            f"POST {STREAM} HTTP/1.1\r\nHost: mesh\r\nContent-Type: application/json\r\n"
            f"Authorization: {token}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", gateway.process.port)) as client:
            client.sendall(head.encode() + body)
            async with asyncio.timeout(15):
                await mesh.agent.follow_ended.wait()
        mesh.agent.reset()
        again = await gateway.http.post(STREAM, json={"message": "Hi"}, headers=gateway.as_user())

    assert again.status_code == 200


async def test_connections_beyond_the_bound_get_503_except_for_health_probes(
    mesh: FakeMesh, valkey: EmbeddedValkey
) -> None:
    async with running_gateway(mesh, valkey.url, max_connections=1) as gateway, _connected(gateway) as (reader, writer):
        await _asked(reader, writer)
        refused = await gateway.http.get("/api/v1/models", headers=gateway.as_user())
        health = await gateway.http.get("/healthz")
        writer.write(WHOLE)
        served = await reader.read(15)

    assert (refused.status_code, refused.json()["reason"]) == (503, "CONNECTIONS_FULL")
    assert (refused.headers["connection"], refused.headers["retry-after"]) == ("close", "5")
    assert refused.json()["trace_id"] == refused.headers["x-trace-id"]
    assert health.status_code == 200
    assert served.endswith(b"HTTP/1.1 200 OK"[:15])


async def test_crowd_beyond_the_bound_is_cut_at_once(
    mesh: FakeMesh, valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh_gateway.edge.protocol._MAX_BEYOND", 0)

    async with running_gateway(mesh, valkey.url, max_connections=1) as gateway, _connected(gateway) as (reader, writer):
        await _asked(reader, writer)
        async with _connected(gateway) as (late, _):
            rest = await _rest(late)

    assert rest == b""


async def _whole_answer(gateway: Client, request: bytes) -> tuple[bytes, bytes]:
    """The head and the body of a response that ends when the connection closes."""
    async with _connected(gateway) as (reader, writer):
        writer.write(request)
        head, _, body = (await _rest(reader)).partition(b"\r\n\r\n")
    return head.lower(), body


async def test_stream_over_http_1_0_is_a_body_until_the_connection_closes(gateway: Client) -> None:
    body = b'{"message": "Hi"}'
    token = gateway.as_user()["Authorization"]
    head = (
        f"POST {STREAM} HTTP/1.0\r\nHost: mesh\r\nContent-Type: application/json\r\nConnection: keep-alive\r\n"
        f"Authorization: {token}\r\nContent-Length: {len(body)}\r\n\r\n"
    )

    answer, events = await _whole_answer(gateway, head.encode() + body)

    assert b"transfer-encoding" not in answer
    assert b"connection: close" in answer
    assert [frame.event for frame in frames_of(events.decode())][-1] == "run_finished"


@pytest.mark.parametrize(("path", "status"), [("/healthz", b"200"), ("/api/v1/threads", b"401")])
async def test_answer_of_known_length_over_http_1_0_names_its_length(gateway: Client, path: str, status: bytes) -> None:
    answer, body = await _whole_answer(gateway, f"GET {path} HTTP/1.0\r\nHost: mesh\r\n\r\n".encode())

    assert status in answer.splitlines()[0]
    assert f"content-length: {len(body)}".encode() in answer
    assert b"transfer-encoding" not in answer


async def test_head_over_http_1_0_has_no_body(gateway: Client) -> None:
    answer, body = await _whole_answer(gateway, b"HEAD /healthz HTTP/1.0\r\nHost: mesh\r\n\r\n")

    assert (answer.splitlines()[0].split()[1], body) == (b"200", b"")


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /healthz HTTP/1.1\r\nHost: me",
        b"POST /api/v1/auth/refresh HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{",
        b"POST /api/v1/nothing HTTP/1.1\r\nHost: mesh\r\nContent-Length: 50\r\n\r\n{",
        WHOLE,
    ],
    ids=["nothing", "half-headers", "half-body", "refused-body", "idle"],
)
async def test_slow_clients_on_all_connections_make_way_for_others(
    mesh: FakeMesh, valkey: EmbeddedValkey, sent: bytes
) -> None:
    # All deadlines of slow clients are far beyond the test's own.
    patient = {"header_timeout_s": 60, "body_timeout_s": 60, "max_connections": 3}
    async with running_gateway(mesh, valkey.url, **patient) as gateway, AsyncExitStack() as stack:
        slow = [await stack.enter_async_context(_connected(gateway)) for _ in range(3)]
        for _, writer in slow:
            writer.write(sent)

        # 503 until the slow clients have had the second that every client has.
        await eventually(gateway, "/api/v1/models", 200, {**gateway.as_user(), "Connection": "close"})
        await eventually(gateway, "/api/v1/models", 200, {**gateway.as_user(), "Connection": "close"})

        async with asyncio.TaskGroup() as group:
            ends = [group.create_task(_rest(reader)) for reader, _ in slow]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                end.cancel()


async def test_open_streams_make_way_for_nobody(mesh: FakeMesh, valkey: EmbeddedValkey) -> None:
    mesh.agent.plan = _until_released(mesh)
    async with (
        running_gateway(mesh, valkey.url, max_connections=1) as gateway,
        gateway.http.stream("POST", STREAM, json={"message": "Hi"}, headers=gateway.as_user()) as response,
    ):
        # Longer than any client's second; the refusals are the newcomers'.
        statuses = set[int]()
        async with httpx.AsyncClient(base_url=gateway.http.base_url, trust_env=False) as others:
            for _ in range(15):
                statuses.add((await others.get("/api/v1/models", headers=gateway.as_user())).status_code)
                await asyncio.sleep(0.1)
        mesh.agent.release.set()
        text = (await response.aread()).decode()

    assert statuses == {503}
    assert "run_finished" in text


def _until_released(mesh: FakeMesh) -> Callable[[FakeRun], Awaitable[None]]:
    async def plan(run: FakeRun) -> None:
        await mesh.agent.release.wait()
        await run.write(run_finished=agent_pb2.RunFinished(finish_reason="stop"))

    return plan


async def test_websocket_is_answered_as_http(gateway: Client) -> None:
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
    }

    response = await gateway.http.get("/api/v1/nothing", headers=headers)

    assert (response.status_code, response.json()["reason"]) == (404, "ROUTE_NOT_FOUND")
