"""What an error means that a server reports inside an answer, after it has sent status 200.

Such an error has no status of its own. It is found in a numeric code, in one of the words that providers use, or in the
sentence; then the error is treated like a response with that status.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

import orjson
from mesh_common.clock import utc_now
from mesh_common.model_server import Refusal, refusal_of
from mesh_common.model_server_waits import requested_wait_s

from mesh_agent.llm.openai_compatible.refusals import RequestRefusedError
from mesh_agent.llm.provider_errors import ProviderError, refused

_WORDS: Final = {
    400: "invalid_request_error invalid_request bad_request badrequesterror invalid_argument failed_precondition "
    "content_filter content_policy_violation invalid_prompt tool_use_failed unsupported_parameter unsupported_value "
    "unknown_parameter",
    401: "authentication_error authenticationerror unauthenticated unauthorized invalid_api_key api_key_invalid",
    402: "billing_error payment_required insufficient_balance",
    403: "permission_error permission_denied permissiondeniederror forbidden",
    404: "not_found_error not_found notfounderror model_not_found",
    413: "request_too_large",
    422: "unprocessable_entity validation_error",
    429: "rate_limit_error rate_limit_exceeded rate_limited ratelimiterror resource_exhausted too_many_requests "
    "slow_down throttling_error throttlingexception engine_overloaded_error insufficient_quota",
    500: "server_error internal_server_error internalservererror internal internal_error api_error",
    503: "unavailable service_unavailable service_unavailable_error serviceunavailableerror over_capacity",
    504: "timeout timeout_error gateway_timeout deadline_exceeded",
    529: "overloaded_error overloaded",
}
_STATUS_OF_WORD: Final = {word: status for status, words in _WORDS.items() for word in words.split()}
# More specific ones first: `invalid_request_error` is the type of many errors whose code says more.
_FIELDS: Final = ("code", "status", "status_code", "error_code", "error_type", "reason", "type")
_SENTENCES: Final = (
    (re.compile(r"rate.?limit|too many requests", re.IGNORECASE), 429),
    (re.compile(r"overloaded|unavailable|(?:over|no|at)[ _]capacity", re.IGNORECASE), 503),
)
_NUMBER: Final = re.compile(r"[45][0-9]{2}")
# Deep enough for OpenRouter's `error.metadata` and for Gemini's `[{"error": {"details": [...]}}]`.
_MAX_DEPTH: Final = 5


def error_in_stream(reported: Any, *, has_spoken: bool) -> ProviderError | RequestRefusedError:
    """The error for what the server reported, in any form. One that says nothing known cuts the answer off."""
    body = _bytes_of(reported)
    status = _status(reported)
    refusal = refusal_of(status or 400, body)
    if status is None and refusal is Refusal.REFUSED:
        return ProviderError("MODEL_CUT_OFF", is_retryable=True, has_spoken=has_spoken)
    if has_spoken and refusal is Refusal.UNAVAILABLE:
        # To a user who has read half an answer, the model was not out of reach.
        return ProviderError("MODEL_CUT_OFF", is_retryable=True, has_spoken=True, status=status)
    error = refused(refusal, status, requested_wait_s({}, utc_now(), body), has_spoken=has_spoken)
    if refusal is Refusal.REFUSED and not has_spoken:
        return RequestRefusedError(body, error)
    return error


def _bytes_of(reported: Any) -> bytes:
    if isinstance(reported, str):
        return reported.encode(errors="replace")
    try:
        return orjson.dumps(reported)
    except (TypeError, ValueError):
        return repr(reported).encode(errors="replace")


def _status(reported: Any) -> int | None:
    found = [*_values(reported)]
    numbers = (int(value) for value in found if _NUMBER.fullmatch(value))
    words = (_STATUS_OF_WORD[word] for value in found if (word := _word(value)) in _STATUS_OF_WORD)
    sentences = (status for text in _texts(reported) for sentence, status in _SENTENCES if sentence.search(text))
    return next(numbers, None) or next(words, None) or next(sentences, None)


def _word(value: str) -> str:
    return value.strip().lower().replace(" ", "_").replace("-", "_")


def _values(reported: Any) -> Iterator[str]:
    """The machine-readable values, the outermost and the most specific first."""
    for error in _objects(reported):
        for name in _FIELDS:
            value = error.get(name)
            if isinstance(value, str) or type(value) is int:
                yield str(value)


def _texts(reported: Any) -> Iterator[str]:
    if isinstance(reported, str):
        yield reported
    for error in _objects(reported):
        yield from (text for name in ("message", "error", "detail") if isinstance(text := error.get(name), str))


def _objects(value: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, list):
        for entry in value:
            yield from _objects(entry, depth + 1)
    if isinstance(value, dict):
        yield value
        for entry in value.values():
            yield from _objects(entry, depth + 1)
