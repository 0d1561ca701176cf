"""What the answers of a model server mean for its caller, for chat completions and embeddings alike.

The agent, memory and eval call such servers through three HTTP clients. This module decides for all of them from plain
values, so that they agree on which refusals are repeated, for how long, and which are an operator's matter.
"""

import json
import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Final

from mesh_common.errors import Unavailable

MAX_REFUSAL_BYTES: Final = 65_536
"""As much of an error's body as `refusal_of` needs. Some servers repeat the whole request in it."""
_TOO_MANY_REQUESTS: Final = 429
_SERVER_ERRORS: Final = 500
# Timeout, conflict with another request for the same resource, a model that failed (Bedrock), early data, and no
# capacity (Groq): the same request may succeed.
_TEMPORARY: Final = frozenset({408, 409, 424, 425, 498})
# 402 is a used-up balance; 405 and 410 come from a wrong address and from a model that was retired.
_MISCONFIGURED: Final = frozenset({401, 402, 403, 404, 405, 410})
_CLIENT_ERRORS: Final = 400
# A proxy gave up waiting: 504 is the standard's, 524 Cloudflare's, 598 that of some others.
_PROXY_TIMEOUTS: Final = frozenset({504, 524, 598})
# Together answers 403, Groq and Anthropic 413, early llama.cpp and sometimes Gemini 500.
_MAY_BE_TOO_LONG: Final = frozenset({400, 403, 413, 422, 500})
# A wrong key: Gemini and xAI answer 400. A used-up budget: OpenAI, Anthropic and Gemini answer 429.
_MISCONFIGURED_CODES: Final = frozenset(
    {
        "api_key_invalid",
        "credit_balance_exhausted",
        "enforced_spend_limit_reached",
        "insufficient_quota",
        "invalid_api_key",
        "model_not_found",
    }
)
# The model wrote a call that Groq's own check of it refused. The next answer may be better.
_TEMPORARY_CODES: Final = frozenset({"tool_use_failed"})
# OpenRouter and Azure refuse a user's text with 403. That says nothing about the model.
_CONTENT_REFUSED: Final = re.compile(
    rb"moderation|flagged|guardrail|content[_ ]filter|content[_ ]policy|content management policy|usage policies",
    re.IGNORECASE,
)
_TOO_LONG_CODES: Final = frozenset(
    {
        "context_length_exceeded",  # OpenAI, Azure, Groq, OpenRouter
        "contextwindowexceedederror",  # LiteLLM
        "exceed_context_size_error",  # llama.cpp
        "request_too_large",  # Anthropic
        "string_above_max_length",  # OpenAI, for a single message
    }
)
# Each provider's words, as regular expressions.
_TOO_LONG_WORDINGS: Final = (
    r"context[_ ]length[_ ]exceeded",
    r"maximum context length",  # OpenAI, vLLM, Mistral, OpenRouter
    r"exceeds? the (available )?context (window|size)",  # OpenAI, llama.cpp
    r"prompt is too long",  # Anthropic
    r"input token count .{0,40}exceeds the maximum",  # Gemini
    r"maximum prompt length is",  # xAI
    r"reduce the length of the (messages|input)",  # Groq, vLLM
    r"greater than the context length",  # LM Studio
    r"context size has been exceeded",  # LM Studio
    r"context window exceeds limit",  # MiniMax
    r"exceeded model token limit",  # Kimi
    r"input is too long for",  # Bedrock
)
_TOO_LONG: Final = re.compile("|".join(_TOO_LONG_WORDINGS), re.IGNORECASE)
_CODE_FIELDS: Final = ("code", "type", "status", "reason", "error_type", "error_code")
# Deep enough for Gemini, which sends a list of objects with `error.details[].reason`.
_MAX_DEPTH: Final = 5


class Refusal(StrEnum):
    """Why a server gave no answer."""

    RATE_LIMITED = "rate_limited"
    """Repeat after a pause."""
    UNAVAILABLE = "unavailable"
    """Repeat after a pause."""
    MISCONFIGURED = "misconfigured"
    """The key, the account, the address or the model's name is wrong. Every call fails until an operator acts."""
    CONTEXT_TOO_LONG = "context_too_long"
    """The input does not fit the model. A shorter one may."""
    REFUSED = "refused"
    """This request is wrong, or its content is rejected."""

    @property
    def is_temporary(self) -> bool:
        return self in {Refusal.RATE_LIMITED, Refusal.UNAVAILABLE}


class PossiblyPaid(Unavailable):
    """The server received a request, and its answer did not arrive: it may be charged all the same."""


def is_possibly_paid(status: int) -> bool:
    """Whether a server behind a proxy may have answered, and been paid, although the proxy did not wait for it."""
    return status in _PROXY_TIMEOUTS


def refusal_of(status: int, body: bytes = b"") -> Refusal:
    """The meaning of any status but a success. `body` may be cut and of any form."""
    body = body[:MAX_REFUSAL_BYTES]
    codes = set(_codes(_parsed(body)))
    if status in _MAY_BE_TOO_LONG and (codes & _TOO_LONG_CODES or _TOO_LONG.search(body.decode(errors="replace"))):
        return Refusal.CONTEXT_TOO_LONG
    if codes & _MISCONFIGURED_CODES and status < _SERVER_ERRORS:
        return Refusal.MISCONFIGURED
    if status == _TOO_MANY_REQUESTS:
        return Refusal.RATE_LIMITED
    if status >= _SERVER_ERRORS or status in _TEMPORARY or codes & _TEMPORARY_CODES:
        return Refusal.UNAVAILABLE
    # A redirect comes from a wrong address.
    if status < _CLIENT_ERRORS or (status in _MISCONFIGURED and not _CONTENT_REFUSED.search(body)):
        return Refusal.MISCONFIGURED
    return Refusal.REFUSED


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _codes(value: Any, depth: int = 0) -> Iterator[str]:
    """The machine-readable words of an error, in lower case. Texts are left out, because some repeat the request."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, list):
        for entry in value:
            yield from _codes(entry, depth + 1)
    if isinstance(value, dict):
        yield from (str(value[name]).lower() for name in _CODE_FIELDS if isinstance(value.get(name), str))
        for entry in value.values():
            yield from _codes(entry, depth + 1)
