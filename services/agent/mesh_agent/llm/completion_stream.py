"""Reads one streamed chat completion as cheaply as Python allows: aiohttp, split by line, orjson.

Why not the SDK: at one chunk per token and 50 tokens/s, a turn costs 2.2-2.8 ms with aiohttp and 9-22 ms with httpx;
the SDK's models cost as much again (docs/adr/0003).
"""

import asyncio
import json
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import aiohttp
import orjson

from mesh_agent.llm.provider_errors import ProviderError

# A line is one chunk, usually of some hundred bytes. A longer line than this is not a valid answer.
_MAX_LINE_BYTES = 1_048_576
_TOO_MANY_REQUESTS = 429
_SERVER_ERRORS = 500
_MAX_RETRY_AFTER_S = 3_600.0
# No model reads or writes so many tokens. A larger number is wrong, and might not even fit PostgreSQL's bigint.
_MAX_TOKENS = 1_000_000_000


@dataclass(slots=True)
class Completion:
    """A completion in progress. `chunks` is the number of text chunks received; a provider sends one per token."""

    id: str = ""
    model: str = ""
    parts: list[str] = field(default_factory=list)
    tool_calls: dict[int, dict[str, Any]] = field(default_factory=dict)
    finish_reason: str | None = None
    usage: dict[str, int] | None = None
    chunks: int = 0

    @property
    def has_spoken(self) -> bool:
        return bool(self.parts)

    def as_response(self) -> dict[str, Any]:
        """The completion in the form of OpenAI's unary answer, for langchain-openai to parse."""
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self.parts)}
        if self.tool_calls:
            message["tool_calls"] = [_encodable(call) for _, call in sorted(self.tool_calls.items())]
        return {
            "id": self.id,
            "model": self.model,
            "choices": [{"index": 0, "message": message, "finish_reason": self.finish_reason}],
            "usage": self.usage,
        }


class TextListener(Protocol):
    def on_text(self, text: str, chunks: int = 1) -> None:
        """Receives a piece of the answer, made of `chunks` chunks that were read together."""

    def next_window(self) -> float:
        """After each read that was reported: for how many seconds to collect further text."""


type OnText = Callable[[str, int], None]


async def read_completion(
    session: aiohttp.ClientSession,
    url: str,
    *,
    headers: dict[str, str],
    payload: dict[str, Any],
    listener: TextListener,
) -> Completion:
    """The complete completion. The listener receives each piece. Raises ProviderError.

    Cancelling it closes the provider's connection, so that the provider stops generating.
    """
    completion = Completion()
    try:
        async with session.post(url, headers=headers, data=orjson.dumps(payload)) as response:
            _check_status(response)
            await read_chunks(_in_windows(response, completion, listener), completion, listener.on_text)
    except TimeoutError as error:
        raise ProviderError("MODEL_TIMEOUT", is_retryable=True, has_spoken=completion.has_spoken) from error
    except (aiohttp.ClientError, OSError) as error:
        reason = "MODEL_CUT_OFF" if completion.has_spoken else "MODEL_UNAVAILABLE"
        raise ProviderError(reason, is_retryable=True, has_spoken=completion.has_spoken) from error
    return completion


async def read_chunks(received: AsyncIterable[bytes], completion: Completion, on_text: OnText) -> None:
    """Parses a server-sent stream, split at arbitrary positions. Raises ProviderError unless it ends properly."""
    rest = b""
    async for data in received:
        *lines, rest = (rest + data).split(b"\n")
        if _take(lines, completion, on_text):
            break
        if len(rest) > _MAX_LINE_BYTES:
            raise ProviderError("MODEL_INVALID_ANSWER", is_retryable=True, has_spoken=completion.has_spoken)
    else:
        _take([rest], completion, on_text)
    if completion.finish_reason is None:
        # The stream ended cleanly but early; OpenAI's own SDK would treat that as success.
        raise ProviderError("MODEL_CUT_OFF", is_retryable=True, has_spoken=completion.has_spoken)


async def _in_windows(
    response: aiohttp.ClientResponse, completion: Completion, listener: TextListener
) -> AsyncIterator[bytes]:
    """The data received: the first token immediately, later data collected per window."""
    async for data in response.content.iter_any():
        yield data
        if completion.has_spoken and not response.content.is_eof():
            with _reading_paused(response):
                await asyncio.sleep(listener.next_window())
        else:
            # iter_any never yields to the loop while data is buffered; a burst must not starve other runs.
            await asyncio.sleep(0)


@contextmanager
def _reading_paused(response: aiohttp.ClientResponse) -> Iterator[None]:
    """During the block, received data stays in the kernel and causes no wake-ups."""
    transport = response.connection.transport if response.connection else None
    if transport is None or transport.is_closing():
        yield
        return
    transport.pause_reading()
    try:
        yield
    finally:
        if not transport.is_closing():
            transport.resume_reading()


def _check_status(response: aiohttp.ClientResponse) -> None:
    if response.status < 400:  # noqa: PLR2004 - HTTP's own border
        return
    if response.status == _TOO_MANY_REQUESTS:
        raise ProviderError("MODEL_RATE_LIMITED", is_retryable=True, retry_after_s=_retry_after_s(response))
    if response.status >= _SERVER_ERRORS:
        raise ProviderError("MODEL_UNAVAILABLE", is_retryable=True, retry_after_s=_retry_after_s(response))
    raise ProviderError("MODEL_REFUSED", is_retryable=False)


def _retry_after_s(response: aiohttp.ClientResponse) -> float | None:
    text = response.headers.get("Retry-After", "")
    return min(float(text), _MAX_RETRY_AFTER_S) if text.isdigit() else None


class _StreamedError(Exception):
    """The provider reports an error in its stream."""


# The errors that parsing raises if a chunk does not follow this API.
_INVALID_CHUNK = (orjson.JSONDecodeError, AttributeError, IndexError, KeyError, TypeError, ValueError)


def _take(lines: Sequence[bytes], completion: Completion, on_text: OnText) -> bool:
    """Parses complete lines and reports their text together, including text before a fault.

    Returns whether the stream is over. Raises ProviderError.
    """
    texts: list[str] = []
    is_over = False
    failure: tuple[str, Exception] | None = None
    try:
        is_over = _merge_lines(lines, completion, texts)
    except _StreamedError as error:
        failure = "MODEL_CUT_OFF", error
    except _INVALID_CHUNK as error:
        failure = "MODEL_INVALID_ANSWER", error
    if texts:
        completion.chunks += len(texts)
        completion.parts += texts
        on_text("".join(texts), len(texts))
    if failure:
        reason, cause = failure
        raise ProviderError(reason, is_retryable=True, has_spoken=completion.has_spoken) from cause
    return is_over


def _merge_lines(lines: Sequence[bytes], completion: Completion, texts: list[str]) -> bool:
    for line in lines:
        if not line.startswith(b"data:"):
            continue
        # The space after the colon is optional, and some providers omit it.
        data = line[5:].strip()
        if data == b"[DONE]":
            return True
        if text := _merge(completion, orjson.loads(data)):
            texts.append(text)
    return False


def _merge(completion: Completion, chunk: dict[str, Any]) -> str:
    """Adds a chunk to the completion and returns its text. Runs once per token: an absent field costs one lookup."""
    if chunk.get("error"):
        raise _StreamedError
    if not completion.id:
        completion.id = str(chunk.get("id") or "")
    if not completion.model:
        completion.model = str(chunk.get("model") or "")
    if usage := chunk.get("usage"):
        completion.usage = _usage(usage) or completion.usage
    choices = chunk.get("choices")
    if not choices:
        return ""
    choice = choices[0]
    if finish_reason := choice.get("finish_reason"):
        completion.finish_reason = finish_reason
    delta = choice.get("delta") or {}
    if calls := delta.get("tool_calls"):
        for call in calls:
            _merge_tool_call(completion.tool_calls, call)
    # PostgreSQL cannot store NUL, and an answer that cannot be stored would be retried again and again.
    return (delta.get("content") or "").replace("\x00", "\ufffd")


def _usage(reported: Any) -> dict[str, int] | None:
    if not isinstance(reported, dict):
        return None
    numbers = {name: reported.get(name) or 0 for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
    is_valid = all(type(number) is int and 0 <= number <= _MAX_TOKENS for number in numbers.values())
    return numbers if is_valid else None


def _merge_tool_call(calls: dict[int, dict[str, Any]], delta: dict[str, Any]) -> None:
    function = delta.get("function") or {}
    index = int(delta.get("index") or 0)
    call = calls.setdefault(index, {"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
    call["id"] = call["id"] or str(delta.get("id") or "")
    call["function"]["name"] += function.get("name") or ""
    call["function"]["arguments"] += function.get("arguments") or ""


def _encodable(call: dict[str, Any]) -> dict[str, Any]:
    """The call with arguments that can be encoded wherever they go: into events, checkpoints and requests.

    A model may write lone surrogates or numbers beyond 64 bits, which orjson rejects, or a value that is not an object,
    on which langchain-openai raises. Such a value is replaced by invalid JSON, which the tool then reports.
    """
    function = call["function"]
    try:
        arguments = json.loads(function["arguments"] or "{}", strict=False) or {}
        utf8 = json.dumps(arguments, ensure_ascii=False).encode(errors="replace")
        is_object = isinstance(arguments, dict)
        encoded = json.dumps(orjson.loads(utf8), ensure_ascii=False) if is_object else f"not an object: {utf8.decode()}"
    except (ValueError, RecursionError):
        encoded = f"not JSON: {function['arguments']}"
    return {**call, "function": {**function, "arguments": encoded}}
