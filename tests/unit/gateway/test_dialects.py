"""Errors have the format of the request's protocol, wherever they arise."""

from typing import Any

import httpx
import pytest
from fakes.gateway.turns import LineDialect
from mesh_gateway.edge.observer import LastCatch, RequestObserver
from mesh_gateway.edge.request_limits import RequestBounds, RequestLimits
from mesh_gateway.protocols.native.problems import ProblemDialect

BOUNDS = RequestBounds(
    max_body_bytes=10,
    max_headers=50,
    max_header_bytes=10_000,
    max_url_bytes=100,
    body_timeout_s=1.0,
    min_body_bytes_per_s=1,
)


async def _crashes(*_: Any) -> None:
    raise RuntimeError


@pytest.fixture
def client() -> httpx.AsyncClient:
    limited = LastCatch(RequestLimits(_crashes, BOUNDS))
    app = RequestObserver(limited, dialects=(("/lines/", LineDialect()), ("", ProblemDialect())))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")


async def test_each_path_has_the_dialect_of_its_protocol(client: httpx.AsyncClient) -> None:
    lines = await client.get("/lines/a")
    native = await client.get("/api/v1/a")

    assert lines.headers["content-type"].startswith("text/x-lines")
    assert (lines.status_code, lines.text) == (500, f"INTERNAL {lines.headers['x-trace-id']}")
    assert native.headers["content-type"] == "application/problem+json"
    assert native.json()["reason"] == "INTERNAL"


async def test_dialect_may_have_another_status(client: httpx.AsyncClient) -> None:
    url = "a" * 200

    assert (await client.get(f"/lines/{url}")).status_code == 400
    assert (await client.get(f"/api/{url}")).status_code == 414
