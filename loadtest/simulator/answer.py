"""Chooses the answer to a chat request: by action, by schema, or the default words."""

import re
from dataclasses import dataclass
from typing import Any

import orjson

from simulator.chat_request import BadRequestError, ChatRequest, text_of
from simulator.facts import message_numbers, self_statements
from simulator.rules import Action, ToolCall
from simulator.schema_answer import UnsupportedSchemaError, answer_schema
from simulator.wire import ROLE_DELTA, TOOL_ROLE_DELTA, content_delta
from simulator.words import Writer, digest, split_tokens

DEFAULT_AFTER_TOOL = "The tool says: {tool_result}"
_ASKS_FOR_MEMORIES = re.compile(r"memor|facts?\b|기억", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """The model's answer. Each delta is one token and one chunk."""

    deltas: list[bytes]
    text: str | None
    finish_reason: str
    tool_calls: list[dict[str, Any]] | None = None

    @property
    def first_delta(self) -> bytes:
        return ROLE_DELTA if self.tool_calls is None else TOOL_ROLE_DELTA

    def message(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": self.text, "refusal": None}
        return message if self.tool_calls is None else message | {"tool_calls": self.tool_calls}

    def cut_to(self, tokens: int) -> "Answer":
        """The answer truncated to `tokens`, for requests without streaming."""
        text = "".join(orjson.loads(delta)["content"] for delta in self.deltas[:tokens]) if self.text else self.text
        return Answer(self.deltas[:tokens], text, self.finish_reason, self.tool_calls)


class Answerer:
    def __init__(self, *, seed: int, default_tokens: int, writer: Writer) -> None:
        self._seed = seed
        self._default_tokens = default_tokens
        self._writer = writer

    def answer(self, request: ChatRequest, action: Action, answer_id: str) -> Answer:
        """Raises: BadRequestError"""
        if action.tool_calls and request.has_tools:
            called = _calls_of_this_round(request, action)
            if called:
                return _tool_answer(called, answer_id)
        text = self._given_text(request, action)
        if text is not None:
            return _limited(split_tokens(text), request.max_tokens)
        if request.schema is not None:
            # Never truncated by max_tokens: truncated JSON is a fault, and only rules cause faults.
            return _limited(split_tokens(self._structured(request, request.schema)), None)
        return self._words(request, action.tokens or self._default_tokens)

    def _given_text(self, request: ChatRequest, action: Action) -> str | None:
        reply = action.reply
        if reply is None and action.echo is not None:
            return request.user_message if action.echo == "user" else "\n".join(request.texts("system", "developer"))
        if "tool_calls" in action.model_fields_set and reply is None and _tool_results(request):
            reply = DEFAULT_AFTER_TOOL
        if reply is not None and "{tool_result}" in reply:
            reply = reply.replace("{tool_result}", "; ".join(_tool_results(request)))
        return reply

    def _words(self, request: ChatRequest, tokens: int) -> Answer:
        limit = request.max_tokens
        length = tokens if limit is None else min(tokens, limit)
        texts, deltas = self._writer.write(request.model, request.user_message, length)
        return Answer(deltas, "".join(texts), "stop" if length == tokens else "length")

    def _structured(self, request: ChatRequest, schema: dict[str, Any]) -> str:
        facts = self_statements(request.texts("user"))
        if not schema:
            return orjson.dumps(_json_object(request, facts)).decode()
        seed = digest(self._seed, request.model, *request.texts())
        try:
            numbers = message_numbers(request.texts("user"))
            return orjson.dumps(answer_schema(schema, seed, facts, numbers)).decode()
        except (UnsupportedSchemaError, RecursionError) as unsupported:
            raise BadRequestError(f"Invalid schema for response_format: {unsupported}") from unsupported


def _json_object(request: ChatRequest, facts: list[str]) -> dict[str, Any]:
    if any(_ASKS_FOR_MEMORIES.search(text) for text in request.texts()):
        return {"facts": facts, "memory": [{"id": str(i), "text": fact} for i, fact in enumerate(facts)]}
    return {"answer": request.user_message}


def _calls_of_this_round(request: ChatRequest, action: Action) -> tuple[ToolCall, ...]:
    rounds = sum(bool(message.get("tool_calls")) for message in request.since_user())
    calls = action.tool_calls
    if action.repeat:
        return (calls[rounds % len(calls)],) if action.in_rounds else calls
    if action.in_rounds:
        return calls[rounds : rounds + 1]
    return () if rounds else calls


def _tool_results(request: ChatRequest) -> list[str]:
    return [text_of(message) for message in request.since_user() if message.get("role") == "tool"]


def _limited(tokens: list[str], limit: int | None) -> Answer:
    kept = tokens if limit is None else tokens[:limit]
    deltas = [content_delta(token) for token in kept]
    return Answer(deltas, "".join(kept), "stop" if len(kept) == len(tokens) else "length")


def _tool_answer(calls: tuple[ToolCall, ...], answer_id: str) -> Answer:
    """For each call, name and id first and then the arguments in pieces, as OpenAI streams them."""
    deltas: list[bytes] = []
    message_calls = []
    for index, call in enumerate(calls):
        call_id = f"call_{answer_id.removeprefix('chatcmpl-')}_{index}"
        arguments = call.arguments if isinstance(call.arguments, str) else orjson.dumps(call.arguments).decode()
        head = {"index": index, "id": call_id, "type": "function", "function": {"name": call.name, "arguments": ""}}
        deltas.append(orjson.dumps({"tool_calls": [head]}))
        deltas += [
            orjson.dumps({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
            for piece in split_tokens(arguments)
        ]
        message_calls.append(head | {"function": {"name": call.name, "arguments": arguments}})
    for message_call in message_calls:
        message_call.pop("index")
    return Answer(deltas, None, "tool_calls", message_calls)
