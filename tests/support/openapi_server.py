"""An HTTP API with an OpenAPI document. It records its requests."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from support.net import free_port

ID = {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "pattern": "^[a-z-]+$"}}
FIELDS = {"name": "fields", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}}
QUANTITY = {"type": "object", "properties": {"quantity": {"type": "integer", "minimum": 1}}, "required": ["quantity"]}
DOCUMENT: dict[str, Any] = {
    "openapi": "3.0.3",
    "servers": [{"url": "/{version}", "variables": {"version": {"default": "v1"}}}],
    "paths": {
        "/items/{id}": {
            "parameters": [ID],
            "get": {"operationId": "items/get", "summary": "Looks an item up.", "parameters": [FIELDS]},
            "post": {
                "operationId": "order",
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Quantity"}}},
                },
            },
            "delete": {"operationId": "broken", "parameters": [{"$ref": "other.json#/x"}]},
        },
    },
    "components": {"schemas": {"Quantity": QUANTITY}},
}


@dataclass(frozen=True)
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Api:
    url: str
    document: str = json.dumps(DOCUMENT)
    """Empty for an API whose document cannot be fetched."""
    requests: list[Seen] = field(default_factory=list)

    def as_setting(self, *operations: str, **more: Any) -> str:
        """A value of AGENT_OPENAPI with only this API."""
        return json.dumps([{"name": "shop", "document": f"{self.url}/api.json", "operations": operations} | more])

    async def _describe(self, _request: web.Request) -> web.Response:
        return web.Response(text=self.document, status=200 if self.document else 503)

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else None
        self.requests.append(Seen(request.method, request.path_qs, dict(request.headers), body))
        return web.json_response({"item": request.match_info["id"]})


@asynccontextmanager
async def running_api() -> AsyncIterator[Api]:
    port = free_port()
    api = Api(f"http://127.0.0.1:{port}")
    application = web.Application()
    application.router.add_get("/api.json", api._describe)
    application.router.add_route("*", "/v1/items/{id}", api._take)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield api
    finally:
        await runner.cleanup()
