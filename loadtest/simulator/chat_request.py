"""The parts of a chat request that determine its answer. Unknown fields are ignored, as OpenAI-compatible APIs must."""

from dataclasses import dataclass
from typing import Any

import orjson

from simulator.http_server import Request

# Tokens of a message in addition to its words, as in OpenAI's chat format.
_TOKENS_PER_MESSAGE = 3


class BadRequestError(ValueError):
    """The request is invalid; the text goes to the client."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    model: str
    messages: list[dict[str, Any]]
    is_stream: bool
    with_usage: bool
    max_tokens: int | None
    schema: dict[str, Any] | None
    """The requested JSON schema; an empty one for `json_object`."""
    has_tools: bool
    key: str | None

    @property
    def is_structured(self) -> bool:
        return self.schema is not None

    @property
    def user_message(self) -> str:
        return next((text_of(m) for m in reversed(self.messages) if m.get("role") == "user"), "")

    def texts(self, *roles: str) -> list[str]:
        """The text of all messages, or of those with the given roles, in order."""
        return [text_of(message) for message in self.messages if not roles or message.get("role") in roles]

    @property
    def prompt_tokens(self) -> int:
        return sum(len(text.split()) + _TOKENS_PER_MESSAGE for text in self.texts())

    def since_user(self) -> list[dict[str, Any]]:
        """The messages after the user's last one: the tool loop of this turn."""
        last = max((i for i, message in enumerate(self.messages) if message.get("role") == "user"), default=-1)
        return self.messages[last + 1 :]


def text_of(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(
            part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)
        )
    return ""


def parse_body(request: Request) -> dict[str, Any]:
    """Raises: BadRequestError"""
    try:
        body = orjson.loads(request.body)
    except orjson.JSONDecodeError as invalid:
        raise BadRequestError(f"the body is not JSON: {invalid}") from invalid
    if not isinstance(body, dict):
        raise BadRequestError("the body must be a JSON object")
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise BadRequestError("you must provide a model parameter")
    return body


def parse_chat(request: Request, body: dict[str, Any]) -> ChatRequest:
    """Raises: BadRequestError"""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
        raise BadRequestError("'messages' must be a list of at least one message")
    if body.get("n") not in (None, 1):
        raise BadRequestError("'n' must be 1")
    options = body.get("stream_options") or {}
    return ChatRequest(
        model=body["model"],
        messages=messages,
        is_stream=bool(body.get("stream")),
        with_usage=isinstance(options, dict) and bool(options.get("include_usage")),
        max_tokens=_max_tokens(body),
        schema=_schema(body.get("response_format")),
        has_tools=bool(body.get("tools")) and body.get("tool_choice") != "none",
        key=request_key(request, body),
    )


def request_key(request: Request, body: dict[str, Any]) -> str | None:
    """The key for counting tokens: the first of header `x-sim-key`, metadata `sim_key` or `run_id`, and `user`."""
    if header := request.headers.get("x-sim-key"):
        return header
    metadata = body.get("metadata")
    candidates = [metadata.get("sim_key"), metadata.get("run_id")] if isinstance(metadata, dict) else []
    return next((value for value in [*candidates, body.get("user")] if isinstance(value, str) and value), None)


def _max_tokens(body: dict[str, Any]) -> int | None:
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        raise BadRequestError("'max_tokens' must be a positive integer")
    return limit


def _schema(response_format: Any) -> dict[str, Any] | None:
    if response_format is None or (isinstance(response_format, dict) and response_format.get("type") == "text"):
        return None
    if isinstance(response_format, dict) and response_format.get("type") == "json_object":
        return {}
    wrapper = response_format.get("json_schema") if isinstance(response_format, dict) else None
    schema = wrapper.get("schema") if isinstance(wrapper, dict) else None
    if not isinstance(schema, dict):
        raise BadRequestError("'response_format' must be text, json_object, or json_schema with a schema")
    return schema
