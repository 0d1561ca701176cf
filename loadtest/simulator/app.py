"""The routes: OpenAI's, and the admin API under /_sim."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import orjson
from pydantic import ValidationError

from simulator.chat import Chat
from simulator.chat_request import BadRequestError
from simulator.directives import DirectiveError
from simulator.embeddings_api import Embeddings
from simulator.http_server import Connection, Request
from simulator.pacing import Clock
from simulator.rules import FaultDice, RuleBook
from simulator.settings import SimulatorSettings
from simulator.stats import Stats
from simulator.wire import error

Route = Callable[[Request, Connection], None]

_INVALID = "invalid_request_error"


class Simulator:
    def __init__(self, settings: SimulatorSettings, clock: Clock) -> None:
        self._settings = settings
        self._stats = Stats(settings.request_log)
        self._rules = RuleBook(settings.seed)
        self._dice = FaultDice(settings.seed, settings.fault_rates)
        chat = Chat(settings, rules=self._rules, dice=self._dice, stats=self._stats, clock=clock)
        embeddings = Embeddings(settings, rules=self._rules, stats=self._stats, clock=clock)
        self._routes: dict[tuple[str, str], Route] = {
            ("POST", "/v1/chat/completions"): chat.handle,
            ("POST", "/v1/embeddings"): embeddings.handle,
            ("GET", "/v1/models"): self._models,
            ("GET", "/healthz"): self._healthz,
            ("GET", "/_sim/stats"): self._show_stats,
            ("GET", "/_sim/requests"): self._show_requests,
            ("GET", "/_sim/rules"): self._show_rules,
            ("PUT", "/_sim/rules"): self._put_rules,
            ("DELETE", "/_sim/rules"): self._delete_rules,
            ("POST", "/_sim/reset"): self._reset,
        }
        self._paths = {path for _, path in self._routes}

    def handle(self, request: Request, connection: Connection) -> None:
        route = self._routes.get((request.method, request.path))
        if route is None:
            status = HTTPStatus.METHOD_NOT_ALLOWED if request.path in self._paths else HTTPStatus.NOT_FOUND
            connection.respond(status, error(f"Invalid URL ({request.method} {request.path})", _INVALID))
            return
        try:
            route(request, connection)
        except (BadRequestError, DirectiveError) as invalid:
            connection.respond(HTTPStatus.BAD_REQUEST, error(str(invalid), _INVALID))

    def _models(self, _request: Request, connection: Connection) -> None:
        models = [
            {"id": name, "object": "model", "created": 0, "owned_by": "simulator"} for name in self._settings.models
        ]
        _respond(connection, {"object": "list", "data": models})

    def _healthz(self, _request: Request, connection: Connection) -> None:
        _respond(connection, {"status": "ok"})

    def _show_stats(self, _request: Request, connection: Connection) -> None:
        _respond(connection, self._stats.as_json())

    def _show_requests(self, request: Request, connection: Connection) -> None:
        limit = request.query.get("limit", str(self._settings.request_log))
        if not limit.isdecimal():
            raise BadRequestError("'limit' must be a number")
        _respond(connection, {"requests": self._stats.last_requests(int(limit))})

    def _show_rules(self, _request: Request, connection: Connection) -> None:
        _respond(connection, {"rules": self._rules.describe()})

    def _put_rules(self, request: Request, connection: Connection) -> None:
        try:
            self._rules.replace(orjson.loads(request.body))
        except orjson.JSONDecodeError as invalid:
            raise BadRequestError(f"the body is not JSON: {invalid}") from invalid
        except ValidationError as invalid:
            connection.respond(HTTPStatus.UNPROCESSABLE_ENTITY, error(str(invalid), _INVALID))
        else:
            self._show_rules(request, connection)

    def _delete_rules(self, request: Request, connection: Connection) -> None:
        self._rules.clear()
        self._show_rules(request, connection)

    def _reset(self, request: Request, connection: Connection) -> None:
        self._rules.clear()
        self._dice.reset()
        self._stats.reset()
        self._show_stats(request, connection)


def _respond(connection: Connection, body: dict[str, Any]) -> None:
    connection.respond(HTTPStatus.OK, orjson.dumps(body))
