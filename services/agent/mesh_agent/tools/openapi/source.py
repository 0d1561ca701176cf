"""Keeps the tools of one OpenAPI document up to date in the registry."""

import asyncio
import re
from collections.abc import Mapping
from typing import Any, Final

import aiohttp
import structlog
from yarl import URL

from mesh_agent.domain.tools import Approval, Effect
from mesh_agent.metrics import OPENAPI_REFUSED_OPERATIONS, OPENAPI_UP
from mesh_agent.tool_server_settings import SEPARATOR, OpenApiSettings
from mesh_agent.tools.http_call import HttpRequest, answer_of
from mesh_agent.tools.openapi.document import DocumentError, is_remote, read_document
from mesh_agent.tools.openapi.operations import Operation, OperationError, find_operation
from mesh_agent.tools.openapi.requests import request_of
from mesh_agent.tools.refused import Refused
from mesh_agent.tools.registry import MeshTool, ToolRegistry
from mesh_agent.tools.schema import foreign_schema_fault
from mesh_agent.tools.server_access import ServerAccess
from mesh_agent.tools.tool import of_schema

log = structlog.get_logger()

_REFRESH_S: Final = 300.0
_FIRST_PAUSE_S: Final = 1.0
_MAX_NAME_CHARS: Final = 64
_MAX_DESCRIPTION_CHARS: Final = 2_000
_EFFECTS: Final = {"PUT": Effect.IDEMPOTENT, "DELETE": Effect.IDEMPOTENT, "POST": Effect.ONCE, "PATCH": Effect.ONCE}


class OpenApiSource:
    """`run` until cancelled. A document that becomes unreadable leaves the tools as they were."""

    def __init__(self, settings: OpenApiSettings, registry: ToolRegistry, session: aiohttp.ClientSession) -> None:
        self._settings = settings
        self._registry = registry
        self._session = session
        self._access = ServerAccess(settings, session)
        self._document: Mapping[str, Any] | None = None
        self._fault = ""
        self._refused = Refused(settings.name, OPENAPI_REFUSED_OPERATIONS, "openapi.operation_refused")

    async def run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                await self.refresh()
                pause_s = _REFRESH_S
            except DocumentError as error:
                self._is_unreadable(str(error))
                pause_s = min(pause_s * 2, _REFRESH_S)
            await asyncio.sleep(pause_s)

    async def refresh(self) -> None:
        """Raises DocumentError."""
        document = await read_document(self._settings, self._session, self._access)
        OPENAPI_UP.labels(self._settings.name).set(1)
        self._fault = ""
        if document == self._document:
            return
        tools, refused = self._tools(document)
        self._registry.replace(f"openapi:{self._settings.name}", tools)
        self._refused.report(refused)
        self._document = document
        log.info("openapi.read", server=self._settings.name, tools=len(tools))

    def _is_unreadable(self, fault: str) -> None:
        OPENAPI_UP.labels(self._settings.name).set(0)
        if fault != self._fault:
            log.error("openapi.unreadable", server=self._settings.name, fault=fault)
        self._fault = fault

    def _tools(self, document: Mapping[str, Any]) -> tuple[list[MeshTool], dict[str, str]]:
        """The tools, and why the other operations are none."""
        made: dict[str, MeshTool] = {}
        refused: dict[str, str] = {}
        address = base_url(self._settings, document)
        for operation_id in dict.fromkeys(self._settings.operations):
            name = f"{self._settings.name}{SEPARATOR}{re.sub(r'[^a-zA-Z0-9_-]', '_', operation_id)}"[:_MAX_NAME_CHARS]
            if name in made:
                refused[operation_id] = f"another operation has the name {name}, too"
                continue
            try:
                made[name] = self._tool(name, find_operation(document, operation_id), address)
            except OperationError as error:
                refused[operation_id] = str(error)
        return list(made.values()), refused

    def _tool(self, name: str, operation: Operation, base_url: str) -> MeshTool:
        if fault := foreign_schema_fault(operation.schema):
            raise OperationError(fault)
        policy = self._settings.policy_of(operation.id)
        call = _Call(operation, base_url, self._access, self._session)
        return MeshTool(
            of_schema(name, operation.description[:_MAX_DESCRIPTION_CHARS], operation.schema, call),
            Effect(policy.effect) if policy.effect else _EFFECTS.get(operation.method, Effect.NONE),
            policy.timeout_s or self._settings.timeout_s,
            Approval(policy.approval or self._settings.approval),
        )


def base_url(settings: OpenApiSettings, document: Mapping[str, Any]) -> str:
    """Raises DocumentError."""
    if settings.url:
        return str(settings.url)
    servers = document.get("servers")
    first = servers[0] if isinstance(servers, list) and servers and isinstance(servers[0], dict) else {}
    url = str(first.get("url") or "/")
    variables = first.get("variables")
    for variable, described in (variables if isinstance(variables, dict) else {}).items():
        default = described.get("default", "") if isinstance(described, dict) else ""
        url = url.replace(f"{{{variable}}}", str(default))
    if not url.startswith(("http://", "https://")):
        if not is_remote(settings):
            raise DocumentError("names no server with an absolute URL: set `url`")
        url = str(URL(settings.document).join(URL(url)))
    return url


class _Call:
    def __init__(
        self, operation: Operation, base_url: str, access: ServerAccess, session: aiohttp.ClientSession
    ) -> None:
        self._operation = operation
        self._base_url = base_url
        self._access = access
        self._session = session

    async def __call__(self, arguments: Mapping[str, Any]) -> str:
        """Raises as `answer_of`, ToolError for arguments that no request can carry, TokenError."""
        request = request_of(self._operation, self._base_url, arguments)
        headers = {"Accept": "application/json, */*;q=0.5", **request.headers, **await self._access.headers()}
        return await answer_of(self._session, HttpRequest(self._operation.method, request.url, headers, request.body))
