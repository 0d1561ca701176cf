"""A WebSocket route has the same layers as HTTP routes: record, bounds, authentication, limits, errors.

The gateway has no WebSocket route yet; the tests add one.
"""

import asyncio
from collections import deque
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from fakes.gateway.turns import RUN, WHOLE, CountedLimits, LineEncoder, ListedAgent, numbered, turns_of
from fastapi import FastAPI, WebSocket
from mesh_common.errors import PermissionDenied, Unauthenticated
from mesh_common.ids import RunId
from mesh_gateway.app import build_app
from mesh_gateway.edge.connections import until_left
from mesh_gateway.edge.deps import CallerDep, Gateway, GatewayDep, RecordDep
from mesh_gateway.identity.access_tokens import MISSING_TOKEN, Principal
from mesh_gateway.metrics import HTTP_REQUESTS
from mesh_gateway.runs.order import RunOrder
from mesh_gateway.runs.pump import Pump
from mesh_gateway.settings import GatewaySettings
from support.subjects import some_subject

USER = some_subject()
PATH = "/test/{run_id}"


class FakeTokens:
    def has_verified(self, token: str) -> bool:
        return token == "good"

    async def authenticate(self, token: str | None) -> Principal:
        if token != "good":
            raise Unauthenticated("An access token is required.", reason=MISSING_TOKEN)
        return Principal(USER, "session", datetime(2027, 1, 1, tzinfo=UTC))


async def _stream(
    websocket: WebSocket, run_id: UUID, gateway: GatewayDep, caller: CallerDep, record: RecordDep
) -> None:
    turn = await gateway.turns.start(record, caller, RunOrder(RunId(run_id), "Hi", {}))
    async with turn.resources:
        await websocket.accept()
        pump = Pump(turn, LineEncoder(), websocket.send_bytes, ping_interval_s=15)
        if await pump.run(until_left(websocket.receive)):
            await websocket.close()


async def _refuse_late(websocket: WebSocket) -> None:
    await websocket.accept()
    raise PermissionDenied("Your account may not do that.")


async def _crash(websocket: WebSocket, *, late: bool) -> None:
    if late:
        await websocket.accept()
    raise RuntimeError


class Connection:
    """One WebSocket of an ASGI server."""

    def __init__(self, path: str, headers: dict[str, str], query: str = "") -> None:
        self.scope: dict[str, Any] = {
            "type": "websocket",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "scheme": "ws",
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "client": ("10.0.0.1", 1),
            "server": ("gateway", 80),
            "subprotocols": [],
            "extensions": {"websocket.http.response": {}},
        }
        self._received = deque([{"type": "websocket.connect"}])
        self.left = asyncio.Event()
        self.sent: list[Any] = []
        self.has_data = asyncio.Event()

    async def receive(self) -> Any:
        if self._received:
            return self._received.popleft()
        await self.left.wait()
        return {"type": "websocket.disconnect", "code": 1001}

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        if message["type"] == "websocket.send":
            self.has_data.set()

    def header(self, name: str) -> str | None:
        return next((value.decode() for key, value in self.sent[0]["headers"] if key.decode() == name), None)

    @property
    def kinds(self) -> list[str]:
        return [message["type"].removeprefix("websocket.") for message in self.sent]


class Served:
    def __init__(self, agent: ListedAgent, *, max_per_user: int = 10) -> None:
        self.limits = CountedLimits()
        fields: dict[str, Any] = dict.fromkeys(Gateway.__dataclass_fields__)
        fields["settings"] = GatewaySettings.model_construct()
        fields["tokens"] = FakeTokens()
        fields["turns"] = self.turns = turns_of(agent, self.limits, max_per_user=max_per_user)
        self.app: FastAPI = build_app(Gateway(**fields))
        self.app.add_api_websocket_route(PATH, _stream)
        self.app.add_api_websocket_route("/late", _refuse_late)
        self.app.add_api_websocket_route("/crash", _crash)

    async def connected(
        self, path: str = f"/test/{RUN}", headers: dict[str, str] | None = None, query: str = ""
    ) -> Connection:
        token = {"Authorization": "Bearer good"} if headers is None else headers
        connection = Connection(path, token, query)
        await self.app(connection.scope, connection.receive, connection.send)
        return connection


async def test_turn_over_a_websocket_is_authenticated_charged_and_recorded() -> None:
    served = Served(ListedAgent())
    before = HTTP_REQUESTS.labels(PATH, "WEBSOCKET", "101")._value.get()

    connection = await served.connected()

    assert connection.kinds == ["accept", "send", "send", "send", "close"]
    assert [message["bytes"] for message in connection.sent[1:4]] == [
        b"2 message_delta\n",
        b"3 run_finished\n",
        b"complete\n",
    ]
    assert served.limits.charged == [("chat", str(USER.user_id))]
    assert connection.header("ratelimit") == "counted"
    assert connection.header("x-trace-id")
    assert HTTP_REQUESTS.labels(PATH, "WEBSOCKET", "101")._value.get() == before + 1


@pytest.mark.parametrize(
    ("headers", "max_per_user", "status", "reason"),
    [
        ({}, 10, 401, b"TOKEN_REQUIRED"),
        (None, 0, 429, b"TOO_MANY_STREAMS"),
        ({"Authorization": "Bearer good", "X": "x" * 100_000}, 10, 431, b"HEADERS_TOO_LARGE"),
    ],
)
async def test_refusal_before_the_handshake_is_the_answer_that_http_gives(
    headers: dict[str, str] | None, max_per_user: int, status: int, reason: bytes
) -> None:
    connection = await Served(ListedAgent(), max_per_user=max_per_user).connected(headers=headers)

    assert connection.kinds == ["http.response.start", "http.response.body"]
    assert connection.sent[0]["status"] == status
    assert connection.header("content-type") == "application/problem+json"
    assert connection.header("x-trace-id")
    assert reason in connection.sent[1]["body"]


async def test_parameter_that_is_none_is_named() -> None:
    connection = await Served(ListedAgent()).connected("/test/none")

    assert connection.sent[0]["status"] == 422
    assert b'"field":"run_id"' in connection.sent[1]["body"]


async def test_refusal_after_the_handshake_closes_with_its_reason() -> None:
    connection = await Served(ListedAgent()).connected("/late")

    assert connection.kinds == ["accept", "close"]
    assert (connection.sent[1]["code"], connection.sent[1]["reason"]) == (1008, "PERMISSION_DENIED")


@pytest.mark.parametrize(
    ("query", "kinds"),
    [("late=false", ["http.response.start", "http.response.body"]), ("late=true", ["accept", "close"])],
)
async def test_crash_does_not_reveal_its_cause(query: str, kinds: list[str]) -> None:
    connection = await Served(ListedAgent()).connected("/crash", query=query)

    assert connection.kinds == kinds
    assert connection.sent[0].get("status", 500) == 500
    assert connection.sent[1].get("code", 1011) == 1011
    assert "RuntimeError" not in str(connection.sent)


async def test_client_that_closes_gives_its_slot_back() -> None:
    served = Served(ListedAgent(numbered(*WHOLE[:2])), max_per_user=1)
    connection = Connection(f"/test/{RUN}", {"Authorization": "Bearer good"})
    serving = asyncio.ensure_future(served.app(connection.scope, connection.receive, connection.send))
    async with asyncio.timeout(5):
        await connection.has_data.wait()

        connection.left.set()
        await serving
        await served.turns.streams.wait_until_idle(5)

    assert connection.kinds == ["accept", "send"]
