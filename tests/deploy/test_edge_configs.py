"""The configurations of nginx, the collector and Prometheus, tested with these programs."""

import asyncio
import re
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import yaml
from mesh_gateway.app import build_app
from mesh_gateway.edge.deps import Gateway
from mesh_gateway.settings import GatewaySettings

from deploy.edge_proxy import CONFIGURATION, Edge, open_edge
from deploy.programs import ROOT

COMPOSE: Final = ROOT / "deploy/compose"
STREAM: Final = "/api/v1/chatbot/chat/stream"
_MEGABYTE: Final = 1_048_576


@pytest.fixture(scope="module")
def nginx() -> str:
    return _program("nginx", "install Debian's nginx-light")


@pytest.fixture
async def edge(nginx: str, tmp_path: Path) -> AsyncIterator[Edge]:
    async with open_edge(nginx, tmp_path) as opened:
        yield opened


@pytest.mark.parametrize("path", [STREAM, "/api/v1/threads/0198/runs/stream", "/api/v1/runs/0198/events?ticket=secret"])
async def test_an_event_arrives_while_the_stream_goes_on(edge: Edge, path: str) -> None:
    async with edge.client() as client, client.stream("GET", path) as response:
        parts = response.aiter_text()

        first = await anext(parts)
        was_held = not edge.gateway.second_part.is_set()
        edge.gateway.second_part.set()
        second = await anext(parts)

    assert (first, was_held, second) == ("event: first\n\n", True, "event: second\n\n")


async def test_tls_1_3_with_http_2_is_spoken(edge: Edge) -> None:
    trust = edge.trust()
    trust.set_alpn_protocols(["h2", "http/1.1"])

    _, writer = await asyncio.open_connection("127.0.0.1", edge.https_port, ssl=trust)
    spoken = writer.get_extra_info("ssl_object")
    versions = (spoken.version(), spoken.selected_alpn_protocol())
    writer.close()

    assert versions == ("TLSv1.3", "h2")


async def test_tls_1_2_is_refused(edge: Edge) -> None:
    old = edge.trust()
    old.maximum_version = ssl.TLSVersion.TLSv1_2

    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        await asyncio.open_connection("127.0.0.1", edge.https_port, ssl=old)


async def test_what_a_client_claims_of_its_address_is_replaced(edge: Edge) -> None:
    claims = {"X-Forwarded-For": "203.0.113.9", "X-Real-IP": "203.0.113.9", "Forwarded": "for=203.0.113.9"}

    async with edge.client() as client:
        await client.get("/readyz", headers=claims)
        await client.get(STREAM.removesuffix("/stream"), headers=claims)

    assert len(edge.gateway.heads) == 2
    for head in edge.gateway.heads:
        assert "203.0.113.9" not in head
        assert re.findall(r"(?im)^x-forwarded-for: *(.*)\r$", head) == ["127.0.0.1"]


async def test_connections_to_the_gateway_are_kept(edge: Edge) -> None:
    """Uses two clients, so that the kept connection is not the client's."""
    for _ in range(2):
        async with edge.client() as client:
            await client.get("/readyz")

    assert [head.partition("\r\n")[0] for head in edge.gateway.heads] == ["GET /readyz HTTP/1.1"] * 2
    assert edge.gateway.connections == 1


async def test_a_body_beyond_the_bound_never_reaches_the_gateway(edge: Edge) -> None:
    async with edge.client() as client:
        taken = await client.post("/api/v1/memories", content=b"a" * _MEGABYTE)
        refused = await client.post("/api/v1/memories", content=b"a" * (_MEGABYTE + 1))

    assert (taken.status_code, refused.status_code) == (200, 413)
    assert _problem(refused)["reason"] == "TOO_LARGE"
    assert len(edge.gateway.heads) == 1


async def test_without_a_gateway_the_answer_is_a_problem_with_retry_after(nginx: str, tmp_path: Path) -> None:
    def nobody_listens(configuration: str) -> str:
        return re.sub(r"server 127\.0\.0\.1:\d+ max_fails", "server 127.0.0.1:1 max_fails", configuration)

    async with open_edge(nginx, tmp_path, nobody_listens) as edge, edge.client() as client:
        response = await client.get("/api/v1/models")

    assert response.status_code == 503
    assert response.headers["retry-after"] == "2"
    assert _problem(response)["reason"] == "UNAVAILABLE"


async def test_plain_http_is_sent_to_https(edge: Edge) -> None:
    async with httpx.AsyncClient() as client:
        response = await client.post(f"http://127.0.0.1:{edge.http_port}/api/v1/threads?limit=1", content=b"{}")

    assert (response.status_code, response.headers["location"]) == (308, "https://127.0.0.1/api/v1/threads?limit=1")
    assert edge.gateway.heads == []


async def test_the_query_of_a_request_is_not_logged(nginx: str, tmp_path: Path) -> None:
    """The query may contain a ticket, which opens a stream."""
    async with open_edge(nginx, tmp_path) as edge, edge.client() as client:
        edge.gateway.second_part.set()
        await client.get("/api/v1/runs/0198/events?ticket=do-not-log")

    logged = edge.access_log.read_text()
    assert "GET /api/v1/runs/0198/events 200" in logged
    assert "do-not-log" not in logged


def test_the_routes_that_stream_are_those_of_the_gateway() -> None:
    fields: dict[str, Any] = dict.fromkeys(Gateway.__dataclass_fields__)
    fields["settings"] = GatewaySettings.model_construct()
    document = build_app(Gateway(**fields)).openapi()
    pattern = re.findall(r"location ~ (\S+) {", CONFIGURATION.read_text())
    assert len(pattern) == 1

    found = {path for path in document["paths"] if re.search(pattern[0], re.sub(r"{\w+}", "0198", path))}

    assert found == {path for path, methods in document["paths"].items() if "text/event-stream" in str(methods)}


def test_bounds_fit_those_of_the_gateway() -> None:
    text = CONFIGURATION.read_text()
    settings = GatewaySettings.model_fields

    assert "client_max_body_size 1m;" in text
    assert settings["max_body_bytes"].default == _MEGABYTE
    assert [
        int(seconds) > settings["wait_timeout_s"].default for seconds in re.findall(r"read_timeout (\d+)s", text)
    ] == [True]


@pytest.mark.parametrize("name", ["prometheus.yml"])
def test_promtool_takes_the_configuration(name: str) -> None:
    promtool = _program("promtool", "it comes with Prometheus")

    checked = _run(promtool, "check", "config", "--lint=all", "--lint-fatal", str(COMPOSE / name))

    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("files", [["otel-collector.yml"], ["otel-collector.yml", "otel-collector-traces.yml"]])
def test_the_collector_takes_the_configuration(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    collector = _program("otelcol", "the OpenTelemetry Collector with contrib's components")
    monkeypatch.setenv("MESH_TRACES_ENDPOINT", "https://traces.example.com")
    monkeypatch.setenv("MESH_TRACES_AUTHORIZATION", "Basic Zm9v")

    checked = _run(collector, "validate", *(f"--config={COMPOSE / name}" for name in files))

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_prometheus_asks_what_compose_starts() -> None:
    services = yaml.safe_load((COMPOSE / "docker-compose.yml").read_text())["services"]
    jobs = yaml.safe_load((COMPOSE / "prometheus.yml").read_text())["scrape_configs"]
    targets = {
        target.partition(":")[0]
        for job in jobs
        for entry in job.get("static_configs", [])
        for target in entry["targets"]
    }
    names = {name for job in jobs for entry in job.get("dns_sd_configs", []) for name in entry["names"]}

    assert names == {"gateway", "auth", "agent", "memory", "eval"}
    assert (targets - {"localhost"}) | names <= services.keys()
    assert all("telemetry" in services[name]["networks"] for name in (targets - {"localhost"}) | names)


def _problem(response: httpx.Response) -> dict[str, Any]:
    """A problem generated by nginx. It has the members of the gateway's problems except the trace id."""
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem.keys() == {"type", "title", "status", "reason", "detail"}
    assert problem["status"] == response.status_code
    assert problem["type"] == f"urn:mesh:problem:{problem['reason'].lower().replace('_', '-')}"
    return problem


def _program(name: str, hint: str) -> str:
    # nginx is often only in root's PATH.
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip(f"there is no {name} on PATH: {hint}")
    return found


def _run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=60)
