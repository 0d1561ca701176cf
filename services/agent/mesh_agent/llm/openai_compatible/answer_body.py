"""The body of an answer: server-sent events, a whole completion in JSON, or something that is neither.

What the body is shows in its first character. Content types do not tell: servers label streams as JSON or plain text,
and answer a request for a stream with JSON.
"""

from collections.abc import Callable
from typing import Any, Final

import orjson
import structlog

from mesh_agent.llm.broken_text import loads, repaired
from mesh_agent.llm.completion import Completion
from mesh_agent.llm.finish_reasons import Finish
from mesh_agent.llm.openai_compatible.chunks import StreamedError, merge, merge_whole_calls, merge_whole_message
from mesh_agent.llm.openai_compatible.sse import EventParser, NamedData
from mesh_agent.llm.openai_compatible.streamed_errors import error_in_stream
from mesh_agent.llm.provider_errors import EMPTY_ANSWER, ProviderError
from mesh_agent.llm.tool_call_deltas import TooManyCallsError

log = structlog.get_logger()

# An event is one chunk, usually of some hundred bytes. A longer event than this is not a valid answer.
_MAX_EVENT_BYTES: Final = 1_048_576
# A whole answer, which may hold the log probabilities of each token.
_MAX_BYTES: Final = 8 * 1_048_576
# Of a stream, which spends some 300 bytes on each token, thoughts included.
_MAX_STREAM_BYTES: Final = 64 * 1_048_576
_DONE: Final = b"[DONE]"
_BOM: Final = b"\xef\xbb\xbf"


class NotAnAnswerError(Exception):
    """The body is not an answer. The text says what it is."""


class AnswerReader:
    """Adds an answer to `completion` and reports its text, as it arrives."""

    def __init__(self, completion: Completion, on_text: Callable[[str, int], None]) -> None:
        self._completion = completion
        self._on_text = on_text
        self._events = EventParser()
        self._received_bytes = 0
        self._before = b""
        """What came before the first character that says what the body is."""
        self._json: list[bytes] = []
        self._read: Callable[[bytes, list[str]], bool] = self._read_start

    def take(self, data: bytes) -> bool:
        """Parses what arrived and reports its text at once, including text before a fault.

        Returns whether the answer is over. Raises ProviderError or RequestRefusedError.
        """
        self._received_bytes += len(data)
        return self._reporting(self._read, data)

    def close(self) -> None:
        """The body has ended. Raises ProviderError or RequestRefusedError unless the answer has ended too."""
        completion = self._completion
        self._reporting(self._read_end, b"")
        rest = completion.joiner.close()
        if completion.finish_reason is None:
            self._report([rest] if rest else [])
            # The stream ended cleanly but early; OpenAI's own SDK would treat that as success.
            raise self._error("MODEL_CUT_OFF")
        if not f"{completion.text}{rest}".strip() and not completion.tool_calls:
            # A refusal is an answer if nothing else is said.
            completion.white_space.clear()
            rest = repaired("".join(completion.refusal))
        self._report([rest] if rest else [])
        if not completion.text.strip() and not completion.tool_calls:
            # What was filtered or used up its tokens would be so again; another model may answer.
            raise self._error(EMPTY_ANSWER, is_retryable=completion.finish_reason is Finish.END)

    def _reporting(self, read: Callable[[bytes, list[str]], bool], data: bytes) -> bool:
        texts: list[str] = []
        fault: StreamedError | NotAnAnswerError | TooManyCallsError | None = None
        is_over = False
        try:
            is_over = read(data, texts)
        except (StreamedError, NotAnAnswerError, TooManyCallsError) as error:
            fault = error
        self._report(texts)
        if fault is None:
            return is_over
        if not self._is_complete(fault):
            raise self._failure(fault) from fault
        return True

    def _is_complete(self, fault: Exception) -> bool:
        """Whether the answer had ended before the fault, so that the fault voids nothing."""
        completion = self._completion
        says_something = completion.has_spoken or bool(completion.tool_calls or completion.refusal)
        is_kept = says_something or not isinstance(fault, StreamedError)
        return completion.finish_reason is not None and is_kept

    def _failure(self, fault: StreamedError | NotAnAnswerError | TooManyCallsError) -> Exception:
        if isinstance(fault, StreamedError):
            return error_in_stream(fault.reported, has_spoken=self._completion.has_spoken)
        log.warning("model.not_an_answer", found=str(fault))
        return self._error("MODEL_INVALID_ANSWER")

    def _report(self, texts: list[str]) -> None:
        completion = self._completion
        if texts and not completion.parts:
            texts = self._from_first_word(texts)
        if texts:
            completion.chunks += len(texts)
            completion.parts += texts
            self._on_text("".join(texts), len(texts))

    def _from_first_word(self, texts: list[str]) -> list[str]:
        """The texts with the white space before them, or none as long as nothing else has come."""
        white_space = self._completion.white_space
        white_space += texts
        if not "".join(texts).strip():
            return []
        begun, white_space[:] = white_space[:], []
        return begun

    def _error(self, reason: str, *, is_retryable: bool = True) -> ProviderError:
        return ProviderError(reason, is_retryable=is_retryable, has_spoken=self._completion.has_spoken)

    def _check_size(self, max_bytes: int = _MAX_BYTES) -> None:
        if self._received_bytes > max_bytes:
            raise NotAnAnswerError("a body without end")

    def _read_start(self, data: bytes, texts: list[str]) -> bool:
        self._before += data
        start = self._before.removeprefix(_BOM).lstrip()
        if not start:
            # Blank lines, which DeepSeek sends to keep the connection open, are not collected.
            self._before = self._before[-1:] if len(self._before) > len(_BOM) else self._before
            self._check_size()
            return False
        if start[:1] in (b"{", b"["):
            self._read = self._read_json
            return self._read_json(start, texts)
        if start[:1] == b"<":
            raise NotAnAnswerError("a page of HTML or XML")
        self._read = self._read_events
        return self._read_events(self._before, texts)

    def _read_json(self, data: bytes, _texts: list[str]) -> bool:
        self._check_size()
        self._json.append(data)
        return False

    def _read_events(self, data: bytes, texts: list[str]) -> bool:
        self._check_size(_MAX_STREAM_BYTES)
        return self._merge_events(self._events.feed(data), texts)

    def _read_end(self, _data: bytes, texts: list[str]) -> bool:
        if self._read == self._read_json:
            self._merge_json(texts)
        else:
            self._merge_events(self._events.close(), texts)
        completion = self._completion
        if not texts and not completion.has_spoken and not completion.tool_calls:
            text = completion.joiner.add(merge_whole_message(completion))
            texts += [text] if text else []
        elif not completion.tool_calls:
            merge_whole_calls(completion)
        return True

    def _merge_events(self, events: list[bytes], texts: list[str]) -> bool:
        """Returns whether the answer is over. Runs once per token, so the usual chunk takes the shortest way."""
        completion, joiner = self._completion, self._completion.joiner
        for event in events:
            try:
                chunk = orjson.loads(event)
            except orjson.JSONDecodeError:
                if self._merge_odd(event, texts):
                    return True
                continue
            if type(event) is not bytes or type(chunk) is not dict:
                self._merge(chunk, _name(event), texts)
            elif text := merge(completion, chunk):
                if joiner.held or not text.isascii() or "\x00" in text:
                    text = joiner.add(text)
                if text:
                    texts.append(text)
        if self._events.pending_bytes > _MAX_EVENT_BYTES:
            raise NotAnAnswerError("an event without end")
        return False

    def _merge_odd(self, data: bytes, texts: list[str]) -> bool:
        """Merges an event that is not strict JSON."""
        name = _name(data)
        if data.strip() == _DONE:
            self._completion.finish_reason = self._completion.finish_reason or Finish.END
            return True
        try:
            chunk = loads(data)
        except ValueError as error:
            return self._merge_no_json(name, data, texts, error)
        self._merge(chunk, name, texts)
        return False

    def _merge_no_json(self, name: bytes, data: bytes, texts: list[str], error: ValueError) -> bool:
        if name == b"error":
            raise StreamedError(data.decode(errors="replace")) from error
        lines = data.split(b"\n")
        if len(lines) > 1:
            # Some servers end a chunk with a single line feed.
            return self._merge_events([NamedData.of(name, line) for line in lines if line.strip()], texts)
        if name not in _NAMES_OF_CHUNKS:
            # A notice of the server's own, such as a ping.
            return False
        raise NotAnAnswerError("an event that is not JSON") from error

    def _merge(self, chunk: Any, name: bytes, texts: list[str]) -> None:
        if name == b"error":
            raise StreamedError(chunk)
        chunk = _unwrapped(chunk)
        if not isinstance(chunk, dict):
            raise NotAnAnswerError("an event that is not a JSON object")
        text = merge(self._completion, chunk)
        if text and (text := self._completion.joiner.add(text)):
            texts.append(text)

    def _merge_json(self, texts: list[str]) -> None:
        try:
            answer = loads(b"".join(self._json))
        except ValueError as error:
            raise NotAnAnswerError("JSON that is not complete") from error
        answer = _unwrapped(answer)
        self._merge(answer, b"", texts)
        is_answer = self._completion.finish_reason or texts or self._completion.tool_calls
        if not is_answer and not answer.get("choices"):
            raise NotAnAnswerError("JSON that is not a completion")
        self._completion.finish_reason = self._completion.finish_reason or Finish.END


def _unwrapped(value: Any) -> Any:
    """Gemini's endpoint sends errors as a list of one."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _name(event: bytes) -> bytes:
    return event.name if isinstance(event, NamedData) else b""


_NAMES_OF_CHUNKS: Final = (b"", b"message", b"data", b"chunk", b"completion", b"chat.completion.chunk")
