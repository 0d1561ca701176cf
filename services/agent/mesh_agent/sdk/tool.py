"""Tools in code: how a package defines one (docs/tools.md)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import UUID

from langchain_core.tools import ToolException

_MAX_TIMEOUT_S: Final = 300.0
_MAX_RESULT_CHARS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Call:
    """The call that a tool executes. A parameter with this annotation receives it; models do not see that parameter."""

    key: str
    """Different for every call, and the same when a call is repeated: fit to be an idempotency key elsewhere."""
    organisation_id: UUID
    user_id: UUID
    run_id: UUID
    thread_id: UUID


class ToolError(ToolException):
    """The tool had no effect. The text is for the model, which may correct its arguments."""


class UnknownOutcomeError(ToolException):
    """It is unknown whether the tool took effect. The text is for the model."""


@dataclass(frozen=True, slots=True)
class ToolDefinition:
    """A tool as an entry point of the group `mesh.tools` names it."""

    function: Callable[..., Any]
    effect: Literal["none", "idempotent", "once"]
    approval: Literal["never", "always", "on_effect"]
    timeout_s: float
    max_result_chars: int
    is_parallel: bool


def tool(
    *,
    effect: Literal["none", "idempotent", "once"] = "once",
    approval: Literal["never", "always", "on_effect"] = "never",
    timeout_s: float = 30.0,
    max_result_chars: int = 8_000,
    is_parallel: bool = True,
) -> Callable[[Callable[..., Any]], ToolDefinition]:
    """Makes a typed function a tool. The docstring is its description, and the parameters are its schema.

    A function that is no coroutine runs in a thread. `timeout_s`: up to 300. `max_result_chars`: up to 100,000; a
    longer result is cut. `is_parallel`: whether calls of one answer may run at the same time.

    Raises ValueError.
    """
    if not 0 < timeout_s <= _MAX_TIMEOUT_S:
        raise ValueError(f"timeout_s must be greater than 0 and at most {_MAX_TIMEOUT_S:g}")
    if not 0 < max_result_chars <= _MAX_RESULT_CHARS:
        raise ValueError(f"max_result_chars must be from 1 to {_MAX_RESULT_CHARS}")

    def define(function: Callable[..., Any]) -> ToolDefinition:
        return ToolDefinition(function, effect, approval, timeout_s, max_result_chars, is_parallel)

    return define
