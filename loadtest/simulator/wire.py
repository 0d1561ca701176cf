"""OpenAI's wire format: the chunks of a stream, the unary answer, and errors.

The order and presence of fields follow api.openai.com: role chunk, content chunks, finish chunk, usage chunk (with
`choices: []`, and `usage: null` in all others) if `stream_options.include_usage` is set, `data: [DONE]`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

DONE = b"data: [DONE]\n\n"
ROLE_DELTA = b'{"role":"assistant","content":"","refusal":null}'
TOOL_ROLE_DELTA = b'{"role":"assistant","content":null}'
FINGERPRINT = "fp_simulator"


@dataclass(frozen=True, slots=True)
class Usage:
    prompt_tokens: int
    completion_tokens: int

    def as_json(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        }


def content_delta(text: str) -> bytes:
    return orjson.dumps({"content": text})


class Frame(Protocol):
    """Writes the deltas of one answer as chunks."""

    def deltas(self, deltas: Iterable[bytes]) -> bytes:
        """One chunk for each delta; there must be at least one."""


class ChunkFrame:
    """The bytes around every delta of one answer, precomputed so that a stream's body is a single join."""

    def __init__(self, answer_id: str, model: str, created_s: int, *, with_usage: bool) -> None:
        head = {
            "id": answer_id,
            "object": "chat.completion.chunk",
            "created": created_s,
            "model": model,
            "service_tier": "default",
            "system_fingerprint": FINGERPRINT,
        }
        self._head = b"data: " + orjson.dumps(head)[:-1]
        self._end = b',"usage":null}\n\n' if with_usage else b"}\n\n"
        self._prefix = self._head + b',"choices":[{"index":0,"delta":'
        self._suffix = b',"logprobs":null,"finish_reason":null}]' + self._end
        self._between = self._suffix + self._prefix

    def deltas(self, deltas: Iterable[bytes]) -> bytes:
        return self._prefix + self._between.join(deltas) + self._suffix

    def finish(self, reason: str) -> bytes:
        return self._prefix + b'{},"logprobs":null,"finish_reason":"' + reason.encode() + b'"}]' + self._end

    def usage(self, usage: Usage) -> bytes:
        return self._head + b',"choices":[],"usage":' + orjson.dumps(usage.as_json()) + b"}\n\n"


def completion(
    answer_id: str, model: str, created_s: int, message: dict[str, Any], finish_reason: str | None, usage: Usage
) -> bytes:
    """The body of an answer without streaming."""
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}
    body = {
        "id": answer_id,
        "object": "chat.completion",
        "created": created_s,
        "model": model,
        "choices": [choice],
        "usage": usage.as_json(),
        "service_tier": "default",
        "system_fingerprint": FINGERPRINT,
    }
    return orjson.dumps(body)


def error(message: str, kind: str, code: str | None = None, param: str | None = None) -> bytes:
    return orjson.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}})
