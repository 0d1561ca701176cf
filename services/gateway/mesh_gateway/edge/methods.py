"""Methods that every path has: HEAD wherever there is GET, OPTIONS, and 405 with the complete `Allow`.

The router would take `GET /memories/search` for the memory with the id `search`.
"""

import asyncio
from http import HTTPStatus

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mesh_gateway.edge.errors import status_response
from mesh_gateway.edge.path_methods import PathMethods, allow
from mesh_gateway.request_record import record_of


class EveryPathsMethods:
    """Answers OPTIONS, HEAD and methods that a path does not have."""

    def __init__(self, app: ASGIApp, methods: PathMethods) -> None:
        self._app = app
        self._methods = methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method, path = scope["method"], scope["path"]
        literal = self._methods.of_literal(path)
        if method == "OPTIONS":
            await self._options(scope)(scope, receive, send)
        elif literal and method not in literal:
            await _not_allowed(scope, literal)(scope, receive, send)
        elif method == "HEAD":
            await self._head(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _options(self, scope: Scope) -> Response:
        methods = self._methods.of(scope["path"])
        if methods is None:
            return status_response(HTTPStatus.NOT_FOUND, record_of(scope))
        return Response(status_code=HTTPStatus.NO_CONTENT, headers={"Allow": allow(methods)})

    async def _head(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET, whose client leaves as soon as it has the headers: an event stream would go on. uvicorn drops bodies."""
        has_started = asyncio.Event()

        has_ended = False

        async def headers_only(message: Message) -> None:
            nonlocal has_ended
            has_ended = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)
            has_started.set()

        async def leaving() -> Message:
            if has_started.is_set():
                return {"type": "http.disconnect"}
            return await _unless(has_started, receive)

        # A copy, because the server decides by its scope whether to send a body.
        asked = {**scope, "method": "GET"}
        try:
            await self._app(asked, leaving, headers_only)
        finally:
            if "route" in asked:
                scope["route"] = asked["route"]
        if has_started.is_set() and not has_ended:
            await send({"type": "http.response.body"})


def _not_allowed(scope: Scope, methods: frozenset[str]) -> Response:
    return status_response(HTTPStatus.METHOD_NOT_ALLOWED, record_of(scope), {"Allow": allow(methods)})


async def _unless(has_started: asyncio.Event, receive: Receive) -> Message:
    """The next message of the client; a disconnect once the response has started."""
    async with asyncio.TaskGroup() as group:
        received = group.create_task(_received(receive))
        started = group.create_task(has_started.wait())
        await asyncio.wait({received, started}, return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        if not received.done():
            received.cancel()
            return {"type": "http.disconnect"}
    return received.result()


async def _received(receive: Receive) -> Message:
    return await receive()
