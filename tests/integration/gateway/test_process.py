"""The running process: outages of other services, the drain, CORS, traces, metrics."""

import asyncio
import time
from collections.abc import Awaitable
from http import HTTPStatus
from typing import Any

import httpx
import pytest
import structlog
from fakes.gateway.fake_runs import FakeRun, answer_begin
from mesh.agent.v1 import agent_pb2
from mesh_common.ids import new_id
from mesh_dev.valkey import EmbeddedValkey
from mesh_gateway.clients.agent import AgentClient
from opentelemetry.trace import SpanKind
from support.gateway import Client, FakeMesh, eventually, frames_of, read_frames, running_gateway
from support.net import free_port
from support.spans import RecordedSpans, spans

__all__ = ["spans"]

CHAT = "/api/v1/chatbot/chat"
STREAM = "/api/v1/chatbot/chat/stream"


async def test_agent_away_is_503_within_the_deadline_and_comes_back(mesh: FakeMesh, valkey: EmbeddedValkey) -> None:
    async with running_gateway(mesh, valkey.url) as gateway:
        async with mesh.without("agent"):
            started_s = time.monotonic()
            refused = await gateway.http.post(STREAM, json={"message": "Hi"}, headers=gateway.as_user())
            took_s = time.monotonic() - started_s
        await eventually(gateway, "/api/v1/models", 200, gateway.as_user())

    assert (refused.status_code, refused.json()["reason"]) == (503, "UNAVAILABLE")
    assert refused.headers["retry-after"] == "1"
    assert took_s < 5


async def test_agent_that_restarts_under_a_stream_is_followed_again(mesh: FakeMesh, valkey: EmbeddedValkey) -> None:
    async def wait_in_the_middle(run: FakeRun) -> None:
        await answer_begin(run)
        await mesh.agent.release.wait()
        await run.write(run_finished=agent_pb2.RunFinished(finish_reason="stop"))

    mesh.agent.plan = wait_in_the_middle
    async with (
        running_gateway(mesh, valkey.url) as gateway,
        gateway.http.stream("POST", STREAM, json={"message": "Hi"}, headers=gateway.as_user()) as response,
    ):
        frames = read_frames(response)
        early = [await anext(frames) for _ in range(3)]
        async with mesh.without("agent"):
            pass
        mesh.agent.release.set()
        late = [frame async for frame in frames]

    assert [frame.data["seq"] for frame in (*early, *late)] == [1, 2, 3, 4]


async def test_drain_lets_open_streams_end(mesh: FakeMesh, valkey: EmbeddedValkey) -> None:
    async def wait_in_the_middle(run: FakeRun) -> None:
        await answer_begin(run)
        await mesh.agent.release.wait()
        await run.write(run_finished=agent_pb2.RunFinished(finish_reason="stop"))

    mesh.agent.plan = wait_in_the_middle
    async with (
        running_gateway(mesh, valkey.url) as gateway,
        gateway.http.stream("POST", STREAM, json={"message": "Hi"}, headers=gateway.as_user()) as response,
        asyncio.TaskGroup() as group,
    ):
        frames = read_frames(response)
        await anext(frames)
        group.create_task(_done(gateway.process.drain()))
        await asyncio.sleep(0)
        unready = await gateway.http.get("/readyz")
        mesh.agent.release.set()
        events = [frame.event async for frame in frames]

    assert (unready.status_code, unready.json()["reason"]) == (503, "draining")
    assert events[-1] == "run_finished"


async def test_drain_closes_what_does_not_end_in_time_with_a_hint(mesh: FakeMesh, valkey: EmbeddedValkey) -> None:
    mesh.agent.plan = answer_begin

    async with (
        running_gateway(mesh, valkey.url, drain_s=0.1) as gateway,
        gateway.http.stream("POST", STREAM, json={"message": "Hi"}, headers=gateway.as_user()) as response,
        asyncio.timeout(5),
    ):
        chunks = response.aiter_text()
        early = await anext(chunks)
        await gateway.process.drain()
        # httpx raises if a chunked body does not end properly.
        text = early + "".join([chunk async for chunk in chunks])

    *frames, hint = text.split("\n\n")
    comment, retry = hint.splitlines()
    assert [frame.event for frame in frames_of("\n\n".join(frames))] == [
        "run_started",
        "memory_recalled",
        "message_delta",
    ]
    assert comment.startswith(": ")
    assert retry.startswith("retry: ")
    assert 200 <= int(retry.removeprefix("retry: ")) <= 1_000


async def test_drained_clients_are_told_to_come_back_at_different_times(mesh: FakeMesh, valkey: EmbeddedValkey) -> None:
    mesh.agent.plan = answer_begin

    async def rest_of_stream(gateway: Client) -> str:
        async with gateway.http.stream("POST", STREAM, json={"message": "Hi"}, headers=gateway.as_user()) as response:
            return (await response.aread()).decode()

    async with (
        running_gateway(mesh, valkey.url, drain_s=0.1) as gateway,
        asyncio.timeout(10),
        asyncio.TaskGroup() as group,
    ):
        streams = [group.create_task(rest_of_stream(gateway)) for _ in range(20)]
        while len(mesh.agent.started) < len(streams):  # noqa: ASYNC110 - the fake tells nobody
            await asyncio.sleep(0.01)
        await gateway.process.drain()

    assert len({stream.result().rpartition("retry: ")[2] for stream in streams}) > 5


async def test_browser_of_a_known_origin_may_read_errors_and_headers(mesh: FakeMesh, valkey: EmbeddedValkey) -> None:
    origin = "https://app.example.com"

    async with running_gateway(mesh, valkey.url, cors_origins=[origin]) as gateway:
        refused = await gateway.http.get("/api/v1/models", headers={"Origin": origin})
        stranger = await gateway.http.get("/api/v1/models", headers={"Origin": "https://evil.example"})
        preflight = await gateway.http.options(
            STREAM,
            headers={
                "Origin": origin,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization,content-type,last-event-id,idempotency-key",
            },
        )

    exposed = {name.strip().lower() for name in refused.headers["access-control-expose-headers"].split(",")}
    assert refused.headers["access-control-allow-origin"] == origin
    assert {
        "location",
        "content-location",
        "retry-after",
        "ratelimit",
        "ratelimit-policy",
        "x-trace-id",
    } <= exposed
    assert "access-control-allow-origin" not in stranger.headers
    assert preflight.status_code == HTTPStatus.OK


async def test_preflights_are_observed_and_refused_as_every_request(mesh: FakeMesh, valkey: EmbeddedValkey) -> None:
    port = free_port()
    asked = {"Access-Control-Request-Method": "POST"}

    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
        async with running_gateway(
            mesh, valkey.url, cors_origins=["https://app.example.com"], metrics_port=port
        ) as gateway:
            allowed = await gateway.http.options(STREAM, headers={**asked, "Origin": "https://app.example.com"})
            refused = await gateway.http.options(STREAM, headers={**asked, "Origin": "https://evil.example"})
            async with httpx.AsyncClient(trust_env=False) as http:
                metrics = (await http.get(f"http://127.0.0.1:{port}/metrics")).text

    logged = {line["trace_id"]: line["status"] for line in logs if line["event"] == "http.served"}
    assert (refused.status_code, refused.json()["reason"]) == (403, "CORS_REFUSED")
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["trace_id"] == refused.headers["x-trace-id"]
    assert "access-control-allow-origin" not in refused.headers
    assert "Origin" in refused.headers["vary"]
    assert 'requests_total{method="OPTIONS",route="unmatched",status="200"}' in metrics
    assert 'requests_total{method="OPTIONS",route="unmatched",status="403"}' in metrics
    assert logged == {allowed.headers["x-trace-id"]: 200, refused.headers["x-trace-id"]: 403}


async def test_browser_may_read_a_crash(
    mesh: FakeMesh, valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = "https://app.example.com"

    async def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(AgentClient, "models", broken)
    async with running_gateway(mesh, valkey.url, cors_origins=[origin]) as gateway:
        response = await gateway.http.get("/api/v1/models", headers={**gateway.as_user(), "Origin": origin})

    assert response.status_code == HTTPStatus.INTERNAL_SERVER_ERROR
    assert response.headers["access-control-allow-origin"] == origin
    assert response.json()["trace_id"] == response.headers["x-trace-id"]


async def test_turn_is_one_trace_with_the_context_of_a_proxy(
    mesh: FakeMesh, valkey: EmbeddedValkey, spans: RecordedSpans
) -> None:
    trace_id = f"{new_id().int:032x}"

    async with running_gateway(mesh, valkey.url, trusted_proxies=["127.0.0.1/32"]) as gateway:
        headers = {**gateway.as_user(), "traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
        response = await gateway.http.post(f"{CHAT}?q=private", json={"message": "Hi"}, headers=headers)

    ours = [span for span in spans.all() if f"{span.context.trace_id:032x}" == trace_id]
    server = next(span for span in ours if span.name == "POST /api/v1/chatbot/chat")
    client = next(span for span in ours if span.name.endswith("StartRun") and span.kind is SpanKind.CLIENT)
    assert response.headers["x-trace-id"] == trace_id
    assert server.kind is SpanKind.SERVER
    assert server.attributes
    assert client.parent
    assert server.attributes["mesh.run_id"] == response.json()["run_id"]
    assert server.context
    assert client.parent.span_id == server.context.span_id
    assert "private" not in str(server.attributes)


@pytest.mark.parametrize("trusted", [{}, {"trusted_proxy_hops": 1}, {"trusted_proxies": ["10.0.0.0/8"]}])
async def test_trace_of_a_stranger_is_linked_and_not_continued(
    mesh: FakeMesh, valkey: EmbeddedValkey, spans: RecordedSpans, trusted: dict[str, Any]
) -> None:
    trace_id = f"{new_id().int:032x}"

    async with running_gateway(mesh, valkey.url, **trusted) as gateway:
        headers = {
            **gateway.as_user(),
            "traceparent": f"00-{trace_id}-00f067aa0ba902b7-01",
            "tracestate": "vendor=secret",
            "baggage": "user=root",
        }
        response = await gateway.http.post(CHAT, json={"message": "Hi"}, headers=headers)

    own_id = response.headers["x-trace-id"]
    [server] = [span for span in spans.all() if f"{span.context.trace_id:032x}" == own_id and span.parent is None]
    assert own_id != trace_id
    assert [span for span in spans.all() if f"{span.context.trace_id:032x}" == trace_id] == []
    assert [f"{link.context.trace_id:032x}-{link.context.span_id:016x}" for link in server.links] == [
        f"{trace_id}-00f067aa0ba902b7"
    ]


@pytest.mark.parametrize("value", ["", "nonsense", f"00-{0:032x}-{1:016x}-01", "00-" + "é" * 32 + "-1-01"])
async def test_trace_that_cannot_be_read_is_ignored(gateway: Client, spans: RecordedSpans, value: str) -> None:
    headers = [(b"traceparent", value.encode()), (b"authorization", gateway.as_user()["Authorization"].encode())]

    response = await gateway.http.get("/api/v1/models", headers=headers)

    [server] = [span for span in spans.all() if span.name == "GET /api/v1/models" and not span.parent]
    assert response.status_code == HTTPStatus.OK
    assert list(server.links) == []


async def test_problem_names_the_trace(gateway: Client, spans: RecordedSpans) -> None:
    response = await gateway.http.get(f"/api/v1/threads/{new_id()}", headers=gateway.as_user())

    server = next(span for span in spans.all() if span.name == "GET /api/v1/threads/{thread_id}")
    assert response.json()["trace_id"] == f"{server.context.trace_id:032x}"


async def test_probes_are_not_traced(gateway: Client, spans: RecordedSpans) -> None:
    await gateway.http.get("/readyz")
    await gateway.http.get("/healthz")

    assert [span.name for span in spans.all() if "z" in span.name and span.kind is SpanKind.SERVER] == []


async def test_metrics_go_by_route_template(mesh: FakeMesh, valkey: EmbeddedValkey) -> None:
    port = free_port()

    async with running_gateway(mesh, valkey.url, metrics_port=port) as gateway:
        await gateway.http.post(STREAM, json={"message": "Hi"}, headers=gateway.as_user())
        await gateway.http.get(f"/api/v1/threads/{new_id()}", headers=gateway.as_user())
        await gateway.http.get(f"/nothing/{new_id()}")
        async with httpx.AsyncClient(trust_env=False) as http:
            text = (await http.get(f"http://127.0.0.1:{port}/metrics")).text

    assert 'mesh_gateway_http_requests_total{method="POST",route="/api/v1/chatbot/chat/stream",status="200"}' in text
    assert 'route="/api/v1/threads/{thread_id}",status="404"' in text
    assert 'route="unmatched",status="404"' in text
    assert "mesh_gateway_open_streams 0.0" in text
    assert "mesh_gateway_first_token_seconds_count" in text


async def test_keys_and_discovery_are_public(gateway: Client) -> None:
    jwks = await gateway.http.get("/.well-known/jwks.json")
    discovery = await gateway.http.get("/.well-known/openid-configuration", headers={"Host": "evil.example"})

    assert [key["kid"] for key in jwks.json()["keys"]] == [gateway.mesh.auth.key.kid]
    assert jwks.headers["cache-control"] == "public, max-age=300"
    assert discovery.json()["jwks_uri"] == "https://mesh.local/.well-known/jwks.json"


async def _done(awaitable: Awaitable[None]) -> None:
    await awaitable
