"""How long a model server asks its callers to wait.

The order is that of OpenAI's SDK, followed by what other providers send: `retry-after-ms`, then `Retry-After` as a
number, fractions included, then as an HTTP date (RFC 9110, section 10.2.3), then the times at which used-up rate limits
are reset, then what the body of the error says, at last in its sentences.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

MAX_WAIT_S: Final = 3_600.0
"""Longer requested waits count as this."""

_NUMBER: Final = re.compile(r"[0-9]{1,15}(\.[0-9]{0,15})?", re.ASCII)
# As Go prints durations ("1m2.5s", "100ms"), which OpenAI and Groq use, and as protobuf does ("17s", Gemini).
_DURATION: Final = re.compile(r"(?:[0-9]{1,6}(?:\.[0-9]{0,9})?(?:ms|h|m|s))+", re.ASCII)
_DURATION_PART: Final = re.compile(r"([0-9.]+)(ms|h|m|s)")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0}
_SENTENCE: Final = re.compile(
    r"\b(?:try again|retry) (?:in|after) (?:"
    rf"(?P<duration>{_DURATION.pattern})\b"
    r"|(?P<number>[0-9]{1,6}(?:\.[0-9]{1,9})?) (?P<unit>seconds?|minutes?|hours?)\b)",
    re.ASCII | re.IGNORECASE,
)
# Where servers write what went wrong. Some repeat the request in other fields, and its text is not theirs.
_SENTENCE_FIELDS: Final = ("message", "detail", "error")
_MAX_TEXT_CHARS: Final = 4_096
# Names of the headers of one limit: what is left of it, and when it is full again.
_LIMITS: Final = (
    *((f"x-ratelimit-remaining-{what}", f"x-ratelimit-reset-{what}") for what in ("requests", "tokens")),
    *(
        (f"anthropic-ratelimit-{what}-remaining", f"anthropic-ratelimit-{what}-reset")
        for what in ("requests", "tokens", "input-tokens", "output-tokens")
    ),
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
)
# OpenRouter's reset is a Unix time in milliseconds. Smaller numbers are seconds from now.
_EARLIEST_UNIX_MS: Final = 1_000_000_000_000
# Deep enough for Gemini's `[{"error": {"details": [{"retryDelay": "17s"}]}}]`.
_MAX_DEPTH: Final = 5


def requested_wait_s(headers: Mapping[str, str], now: datetime, body: bytes = b"") -> float | None:
    """From 0 to `MAX_WAIT_S`; None if the server requests no wait that can be read.

    `headers` must ignore case, as those of HTTP clients do. A date in the past means 0.
    """
    for wait_s in _waits(headers, now, body):
        if wait_s is not None:
            return min(max(wait_s, 0.0), MAX_WAIT_S)
    return None


def _waits(headers: Mapping[str, str], now: datetime, body: bytes) -> Iterator[float | None]:
    wait_ms = _number(headers.get("retry-after-ms"))
    yield None if wait_ms is None else wait_ms / 1_000
    text = headers.get("retry-after")
    yield _number(text)
    yield _until(_date(text), now)
    yield max(_resets(headers, now), default=None)
    error = _parsed(body)
    yield next(_hints(error), None)
    yield next(filter(None, map(_in_text, _sentences(error))), None)


def _resets(headers: Mapping[str, str], now: datetime) -> Iterator[float]:
    """The resets of the limits that are used up; Groq also sends those of the others."""
    for remaining, reset in _LIMITS:
        is_used_up = _number(headers.get(remaining)) == 0.0
        if is_used_up and (wait_s := _reset_s(headers.get(reset, ""), now)) is not None:
            yield wait_s


def _reset_s(text: str, now: datetime) -> float | None:
    number = _number(text)
    if number is not None:
        return number if number < _EARLIEST_UNIX_MS else number / 1_000 - now.timestamp()
    if (duration_s := _duration_s(text)) is not None:
        return duration_s
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return _until(time.replace(tzinfo=time.tzinfo or UTC), now)


def _hints(error: Any, depth: int = 0) -> Iterator[float]:
    """`retryDelay` of Gemini's RetryInfo, and `retry_after` of OpenRouter's `error.availability`."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(error, dict):
        for name in ("retryDelay", "retry_after"):
            value = error.get(name)
            if type(value) in (int, float) or isinstance(value, str):
                hint_s = _number(str(value))
                hint_s = _duration_s(str(value)) if hint_s is None else hint_s
                yield from () if hint_s is None else (hint_s,)
    for entry in _entries(error):
        yield from _hints(entry, depth + 1)


def _sentences(error: Any, depth: int = 0) -> Iterator[str]:
    """What the server says itself: these fields of a JSON body, or a body that is no JSON."""
    if isinstance(error, str):
        yield error[:_MAX_TEXT_CHARS]
    elif isinstance(error, list) and depth < _MAX_DEPTH:
        for entry in error:
            yield from _sentences(entry, depth + 1)
    elif isinstance(error, dict) and depth < _MAX_DEPTH:
        for field in _SENTENCE_FIELDS:
            yield from _sentences(error.get(field), depth + 1)


def _in_text(text: str) -> float | None:
    """The wait in a sentence. OpenAI and Groq write `Please try again in 1m6.5s.`, Azure `retry after 20 seconds`."""
    found = _SENTENCE.search(text)
    if not found:
        return None
    if found["duration"]:
        return _duration_s(found["duration"].lower())
    return float(found["number"]) * _SECONDS[found["unit"][0].lower()]


def _entries(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _parsed(body: bytes) -> Any:
    """The JSON of a body; its text if it is none. JSON that is cut or too deep is nothing."""
    try:
        return json.loads(body)
    except RecursionError:
        return None
    except ValueError:
        text = body.decode(errors="replace")
        return None if text.lstrip().startswith(("{", "[")) else text


def _number(text: str | None) -> float | None:
    """Only ASCII digits with at most one point: float() also takes `nan`, `1e9`, `1_0` and digits of other scripts."""
    text = (text or "").strip(" \t")
    return float(text) if _NUMBER.fullmatch(text) else None


def _duration_s(text: str) -> float | None:
    text = text.strip(" \t")
    if not _DURATION.fullmatch(text):
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(text))


def _until(date: datetime | None, now: datetime) -> float | None:
    return None if date is None else (date - now).total_seconds()


def _date(text: str | None) -> datetime | None:
    try:
        date = parsedate_to_datetime(text or "")
        # An HTTP date is in GMT, whatever zone is missing from it.
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
