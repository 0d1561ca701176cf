"""POST /v1/embeddings."""

from array import array
from base64 import b64encode
from functools import partial
from typing import Any, Literal

import orjson

from simulator.chat import respond_status_fault
from simulator.chat_request import BadRequestError, parse_body, request_key
from simulator.embeddings import embed
from simulator.http_server import Connection, Request
from simulator.pacing import Clock
from simulator.rules import SLOW_TTFT_MS, Action, RuleBook, Subject
from simulator.settings import SimulatorSettings
from simulator.stats import RequestRecord, Stats
from simulator.stream import GARBAGE

Encoding = Literal["float", "base64"]
# OpenAI's own limit.
_MAX_INPUTS = 2048
_MAX_DIMENSIONS = 4096
_PLAIN = Action()


class Embeddings:
    def __init__(self, settings: SimulatorSettings, *, rules: RuleBook, stats: Stats, clock: Clock) -> None:
        self._settings = settings
        self._rules = rules
        self._stats = stats
        self._clock = clock

    def handle(self, http: Request, connection: Connection) -> None:
        """Raises: BadRequestError, before anything has been written."""
        body = parse_body(http)
        texts = _texts(body.get("input"))
        dimensions = _dimensions(body.get("dimensions"), self._settings.embedding_dimensions)
        encoding = _encoding(body.get("encoding_format"))
        record = self._stats.begin(kind="embeddings", model=body["model"], key=request_key(http, body), body=http.body)
        action = self._action_for(http, body["model"], texts)
        if respond_status_fault(connection, action):
            self._stats.end(record, "fault", action.fault)
            return
        answer = _answer(body["model"], texts, dimensions, encoding)
        self._respond_later(connection, record, action, answer)

    def _action_for(self, http: Request, model: str, texts: list[str]) -> Action:
        if not self._rules:
            return _PLAIN
        subject = Subject(
            kind="embeddings", model=model, text="\n".join(texts), texts=texts, headers=http.headers, structured=False
        )
        return self._rules.action_for(subject) or _PLAIN

    def _respond_later(self, connection: Connection, record: RequestRecord, action: Action, answer: bytes) -> None:
        connection.on_gone = partial(self._stats.end, record, "client_left", action.fault)
        if action.fault == "hang":
            return
        delay_ms = self._settings.embedding_ms if action.ttft_ms is None else action.ttft_ms
        if action.fault == "slow" and action.ttft_ms is None:
            delay_ms = SLOW_TTFT_MS
        respond = partial(self._respond, connection, record, action, answer)
        if delay_ms:
            self._clock.at(self._clock.now_s() + delay_ms / 1000, respond)
        else:
            respond()

    def _respond(self, connection: Connection, record: RequestRecord, action: Action, answer: bytes) -> None:
        if record.outcome != "open":
            return
        match action.fault:
            case "cut" | "end_early":
                self._stats.end(record, "fault", action.fault)
                connection.respond_cut(answer[: len(answer) // 2], len(answer))
            case "garbage":
                self._stats.end(record, "fault", action.fault)
                connection.respond(200, GARBAGE)
            case _:
                self._stats.end(record, "completed", action.fault)
                connection.respond(200, answer)


def _answer(model: str, texts: list[str], dimensions: int, encoding: Encoding) -> bytes:
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(embed(text, dimensions), encoding)}
        for index, text in enumerate(texts)
    ]
    tokens = sum(max(len(text.split()), 1) for text in texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return orjson.dumps({"object": "list", "data": data, "model": model, "usage": usage})


def _encoded(vector: array[float], encoding: Encoding) -> list[float] | str:
    return vector.tolist() if encoding == "float" else b64encode(vector.tobytes()).decode()


def _texts(given: Any) -> list[str]:
    """One text per input. The input is a string, a list of strings, or token ids (one list, or a list of lists)."""
    inputs = given if isinstance(given, list) else [given]
    if inputs and all(isinstance(item, int) for item in inputs):
        inputs = [inputs]
    if not inputs or len(inputs) > _MAX_INPUTS:
        raise BadRequestError(f"'input' must hold 1 to {_MAX_INPUTS} items")
    return [_text(item) for item in inputs]


def _text(item: Any) -> str:
    if isinstance(item, list) and item and all(isinstance(token, int) for token in item):
        return " ".join(map(str, item))
    if isinstance(item, str) and item:
        return item
    raise BadRequestError("'input' must be a non-empty string, or a list of strings or token ids")


def _dimensions(given: Any, default: int) -> int:
    if given is None:
        return default
    if not isinstance(given, int) or isinstance(given, bool) or not 1 <= given <= _MAX_DIMENSIONS:
        raise BadRequestError(f"'dimensions' must be 1 to {_MAX_DIMENSIONS}")
    return given


def _encoding(given: Any) -> Encoding:
    match given:
        case None | "float":
            return "float"
        case "base64":
            return "base64"
        case _:
            raise BadRequestError("'encoding_format' must be float or base64")
