"""Access tokens by client credentials, for MCP servers and HTTP APIs."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from mesh_agent.tool_server_settings import McpServerSettings, OAuthSettings
from mesh_agent.tools.mcp.connection import McpServer, connected
from mesh_agent.tools.oauth import ClientCredentials, TokenError
from mesh_agent.tools.server_access import ServerAccess
from pydantic import SecretStr, ValidationError
from support.agent import agent_settings, eventually, running_agent, some_user
from support.mesh import TestMesh
from support.net import free_port
from support.openapi_server import running_api

SECRET = "s3:cret/+"


@dataclass
class TokenEndpoint:
    """Gives out a new token each time: `token-1`, `token-2` …"""

    url: str
    answer: dict[str, Any] = field(default_factory=lambda: {"expires_in": 3_600, "token_type": "Bearer"})
    status: int = 200
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.asked.append((request.headers["Authorization"], form))
        content = {"access_token": f"token-{len(self.asked)}"} | self.answer
        return web.json_response(content, status=self.status)

    def settings(self, **more: Any) -> dict[str, Any]:
        return {"token_url": self.url, "client_id": "mesh", "client_secret": SECRET} | more


@asynccontextmanager
async def running_endpoint() -> AsyncIterator[TokenEndpoint]:
    port = free_port()
    endpoint = TokenEndpoint(f"http://127.0.0.1:{port}/token")
    application = web.Application()
    application.router.add_post("/token", endpoint.take)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield endpoint
    finally:
        await runner.cleanup()


@pytest.fixture
async def endpoint() -> AsyncIterator[TokenEndpoint]:
    async with running_endpoint() as running:
        yield running


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


def _credentials(endpoint: TokenEndpoint, session: aiohttp.ClientSession, **more: Any) -> ClientCredentials:
    return ClientCredentials(OAuthSettings.model_validate(endpoint.settings(**more)), session)


async def test_token_is_fetched_once_for_many_calls_at_once(
    endpoint: TokenEndpoint, session: aiohttp.ClientSession
) -> None:
    credentials = _credentials(endpoint, session, scope="read write", resource="https://mcp.internal")

    headers = await asyncio.gather(*(credentials.headers() for _ in range(20)))

    assert headers == [{"Authorization": "Bearer token-1"}] * 20
    [(authorization, form)] = endpoint.asked
    assert base64.b64decode(authorization.removeprefix("Basic ")).decode() == "mesh:s3%3Acret%2F%2B"
    assert form == {"grant_type": "client_credentials", "scope": "read write", "resource": "https://mcp.internal"}


@pytest.mark.parametrize(("expires_in", "fetched"), [(0.000_001, 2), (3_600, 1), (None, 1), ("soon", 1), (-5, 1)])
async def test_token_is_fetched_anew_when_it_expires(
    endpoint: TokenEndpoint, session: aiohttp.ClientSession, expires_in: object, fetched: int
) -> None:
    endpoint.answer["expires_in"] = expires_in
    credentials = _credentials(endpoint, session)

    await credentials.headers()
    await credentials.headers()

    assert len(endpoint.asked) == fetched


@pytest.mark.parametrize(
    ("status", "answer"),
    [(401, {}), (503, {}), (302, {}), (200, {"access_token": 5}), (200, {"access_token": "a\r\nHost: b"})],
)
async def test_endpoint_that_gives_no_token_is_an_error_without_the_secret(
    endpoint: TokenEndpoint, session: aiohttp.ClientSession, status: int, answer: dict[str, object]
) -> None:
    endpoint.status, endpoint.answer = status, answer

    with pytest.raises(TokenError) as refused:
        await _credentials(endpoint, session).headers()

    assert SECRET not in str(refused.value)


async def test_endpoint_that_is_down_is_an_error(session: aiohttp.ClientSession) -> None:
    endpoint = TokenEndpoint(f"http://127.0.0.1:{free_port()}/token")

    with pytest.raises(TokenError, match="did not answer"):
        await _credentials(endpoint, session).headers()


async def test_call_of_an_api_carries_the_token(own_mesh: TestMesh, model_url: str, endpoint: TokenEndpoint) -> None:
    message = '[[sim:tool=shop__items_get {"id": "tea"}]] [[sim:reply=It says {tool_result}.]]'
    async with running_api() as api:
        setting = api.as_setting("items/get", oauth=endpoint.settings())
        async with running_agent(own_mesh, agent_settings(own_mesh, model_url, AGENT_OPENAPI=setting)) as agent:
            user_id = some_user()
            await eventually(lambda: agent.run(user_id, message), lambda turn: "There is no tool" not in turn.text)

    assert api.requests[-1].headers["Authorization"] == "Bearer token-1"
    assert len(endpoint.asked) == 1


async def test_session_with_an_mcp_server_carries_the_token(
    endpoint: TokenEndpoint, session: aiohttp.ClientSession
) -> None:
    async with running_api() as api:
        content = {"name": "shop", "url": f"{api.url}/v1/items/mcp", "oauth": endpoint.settings()}
        settings = McpServerSettings.model_validate(content)
        server = McpServer(settings, ServerAccess(settings, session))
        # It is no MCP server: what it was sent is enough.
        with pytest.raises(ExceptionGroup):
            async with connected(server, read_timeout_s=5):
                pass

    assert {request.headers["Authorization"] for request in api.requests} == {"Bearer token-1"}


def test_server_has_one_authorization() -> None:
    oauth = OAuthSettings.model_validate({"token_url": "https://a.example", "client_id": "a", "client_secret": "b"})

    with pytest.raises(ValidationError, match="either `oauth` or a header"):
        McpServerSettings.model_validate(
            {"name": "a", "url": "https://a.example", "oauth": oauth, "headers": {"authorization": SecretStr("x")}}
        )
    assert json.loads(oauth.model_dump_json())["client_secret"] == "**********"
