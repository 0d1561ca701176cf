"""Model servers that are as strict as two real ones: they refuse what those refuse, in their words."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import orjson
from aiohttp import web
from aiohttp.test_utils import TestServer

type Refused = tuple[int, Any]
_LONG = [f"{number} " for number in range(1, 200)]


@dataclass
class StrictServer:
    """`refuses` says why a request is refused; `call_id` makes the ids of calls."""

    refuses: Callable[[dict[str, Any]], Refused | None]
    limits: tuple[str, ...]
    call_id: Callable[[int], str]
    always_reports_usage: bool = False
    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    refused: list[Any] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        self.requests.append(body)
        self.keys.add(request.headers.get("Authorization"))
        if refused := self.refuses(body):
            status, error = refused
            self.refused.append(error)
            return web.json_response(error, status=status)
        return web.Response(body=self._answer(body), content_type="text/event-stream")

    def _answer(self, body: dict[str, Any]) -> bytes:
        last = body["messages"][-1]
        deltas: list[dict[str, Any]]
        if body.get("tools") and last["role"] == "user":
            calls = [self._call(body, index) for index in range(2 if body.get("parallel_tool_calls", True) else 1)]
            deltas, reason = [{"tool_calls": calls}], "tool_calls"
        else:
            words = _LONG if "count" in str(last["content"]).lower() else ["Yes", "."]
            limit = next((body[name] for name in self.limits if name in body), len(_LONG))
            deltas, reason = [{"content": word} for word in words[:limit]], "length" if len(words) > limit else "stop"
        chunks: list[Any] = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
        if self.always_reports_usage or body.get("stream_options", {}).get("include_usage"):
            usage = {"prompt_tokens": 10, "completion_tokens": len(deltas), "total_tokens": 10 + len(deltas)}
            chunks.append({"choices": [], "usage": usage})
        return b"".join(b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"

    def _call(self, body: dict[str, Any], index: int) -> dict[str, Any]:
        name = body["tools"][0]["function"]["name"]
        return {
            "index": index,
            "id": self.call_id(len(self.requests) * 10 + index),
            "type": "function",
            "function": {"name": name, "arguments": '{"city": "Oslo"}'},
        }


@asynccontextmanager
async def opened(server: StrictServer) -> AsyncIterator[StrictServer]:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", server.serve)
    async with TestServer(app) as running:
        server.url = str(running.make_url("/v1"))
        yield server


def mistral_like() -> StrictServer:
    return StrictServer(_mistral_refuses, ("max_tokens",), lambda number: f"{number:09d}", always_reports_usage=True)


def openai_like() -> StrictServer:
    """A reasoning model of OpenAI."""
    return StrictServer(_openai_refuses, ("max_completion_tokens",), lambda number: f"call_{number:024d}")


_MISTRAL_FIELDS = {"model", "messages", "stream", "max_tokens", "tools", "tool_choice", "parallel_tool_calls"}
_MISTRAL_MESSAGE_FIELDS = {"role", "content", "tool_calls", "tool_call_id"}


def _mistral_refuses(body: dict[str, Any]) -> Refused | None:
    faults: list[list[Any]] = [["body", name] for name in body if name not in _MISTRAL_FIELDS]
    for place, message in enumerate(body["messages"]):
        faults += [["body", "messages", place, message["role"], n] for n in message if n not in _MISTRAL_MESSAGE_FIELDS]
    if faults:
        detail = [_forbidden(path, "extra_forbidden", "Extra inputs are not permitted") for path in faults]
        return _mistral_error(422, {"detail": detail})
    roles = [message["role"] for message in body["messages"]]
    if "developer" in roles:
        text = "Input tag 'developer' found using 'role' does not match any of the expected tags: 'system', 'user'"
        path = ["body", "messages", roles.index("developer")]
        return _mistral_error(422, {"detail": [_forbidden(path, "union_tag_invalid", text)]})
    for before, role in pairwise(roles):
        if role == "user" and before in ("user", "tool"):
            return _mistral_error(400, f"Unexpected role 'user' after role '{before}'")
    for message in body["messages"]:
        for call_id in [*(call["id"] for call in message.get("tool_calls", ())), message.get("tool_call_id")]:
            if call_id is not None and not re.fullmatch("[a-zA-Z0-9]{9}", call_id):
                text = f"Tool call id was {call_id} but must be a-z, A-Z, 0-9, with a length of 9."
                return _mistral_error(400, text)
    return None


def _forbidden(path: list[Any], kind: str, text: str) -> dict[str, Any]:
    return {"type": kind, "loc": path, "msg": text, "input": "the request"}


def _mistral_error(status: int, message: Any) -> Refused:
    error = {"object": "error", "message": message, "type": "invalid_request_error", "param": None, "code": None}
    return status, error


def _openai_refuses(body: dict[str, Any]) -> Refused | None:
    for name, code in (
        ("max_tokens", "unsupported_parameter"),
        ("temperature", "unsupported_value"),
        ("reasoning_effort", "unsupported_parameter"),
    ):
        if name in body:
            text = f"Unsupported parameter: '{name}' is not supported with this model."
            return 400, {"error": {"message": text, "type": "invalid_request_error", "param": name, "code": code}}
    for message in body["messages"]:
        for call in message.get("tool_calls") or ():
            if len(call["id"]) > 40:
                text = "Invalid 'messages[1].tool_calls[0].id': string too long."
                error = {"message": text, "param": "messages[1].tool_calls[0].id", "code": "string_above_max_length"}
                return 400, {"error": error}
    return None
