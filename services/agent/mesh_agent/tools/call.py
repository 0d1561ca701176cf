"""What a tool call is: what the model asks for, and which call a tool is in."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import orjson
from mesh_common.ids import RunId, ThreadId
from mesh_common.subject import Subject

from mesh_agent.domain.tools import MAX_TOOL_RESULT_CHARS


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model requests. `arguments` are the model's, not validated yet.

    `fault` says why the call must not be made: it was cut, or its arguments cannot be read. Empty if it may be.
    """

    id: str
    name: str
    arguments: dict[str, Any]
    fault: str = ""

    @property
    def arguments_json(self) -> str:
        return to_json(self.arguments)


def to_json(arguments: Mapping[str, Any]) -> str:
    """Encodes any arguments of a model. Values that JSON cannot express (infinity) become null."""
    try:
        return orjson.dumps(arguments).decode()
    except TypeError:
        # An integer of more than 64 bits, or half of a surrogate pair.
        known = json.loads(json.dumps(arguments), parse_constant=lambda _: None)
        return json.dumps(known, separators=(",", ":"))


def from_json(text: str) -> Any:
    """Decodes JSON exactly, also integers of more than 64 bits. Raises ValueError."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


@dataclass(frozen=True, slots=True)
class CallIdentity:
    """`key` is `<run_id>:<round>:<index>`: unique to the call, and the same whenever the call is repeated.

    `forget_generation` is the user's when the attempt recalled memories; None if it did not, or in vain.
    """

    key: str
    subject: Subject
    run_id: RunId
    thread_id: ThreadId
    forget_generation: int | None = None


_max_result_chars: ContextVar[int] = ContextVar("tool_max_result_chars", default=MAX_TOOL_RESULT_CHARS)


@contextmanager
def bounding(max_chars: int) -> Iterator[None]:
    """Tells the tool how much of its result is kept, so that it can end its text where it must."""
    token = _max_result_chars.set(max_chars)
    try:
        yield
    finally:
        _max_result_chars.reset(token)


def max_result_chars() -> int:
    """The bound of the result of the current call. Whatever is longer is cut."""
    return _max_result_chars.get()


_identity: ContextVar[CallIdentity | None] = ContextVar("tool_call_identity", default=None)


@contextmanager
def calling(identity: CallIdentity) -> Iterator[None]:
    token = _identity.set(identity)
    try:
        yield
    finally:
        _identity.reset(token)


def current_call() -> CallIdentity:
    """The call that the current tool is executing. LangChain passes tools no identity that a model could not forge."""
    identity = _identity.get()
    if identity is None:
        raise RuntimeError("not inside a tool call")
    return identity
