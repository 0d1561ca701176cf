"""A chat completion in progress: what a provider has said so far."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from mesh_agent.llm.broken_text import TextJoiner
from mesh_agent.llm.finish_reasons import Finish
from mesh_agent.llm.tool_call_deltas import ToolCallDeltas


@dataclass(slots=True)
class Completion:
    """`chunks` is the number of text chunks received; a provider sends one per token."""

    id: str = ""
    model: str = ""
    parts: list[str] = field(default_factory=list)
    tool_calls: ToolCallDeltas = field(default_factory=ToolCallDeltas)
    finish_reason: Finish | None = None
    usage: dict[str, int] | None = None
    chunks: int = 0
    refusal: list[str] = field(default_factory=list)
    reasoning: dict[str, Any] = field(default_factory=dict)
    """The fields that the same model wants back with the message, by name."""
    whole_message: dict[str, Any] | None = None
    """A message that came whole: the answer was not streamed, or the server repeats it at the end."""
    has_reasoned: bool = False
    joiner: TextJoiner = field(default_factory=TextJoiner)
    white_space: list[str] = field(default_factory=list)
    """What came before the first word. It becomes part of the answer with that word."""

    @property
    def has_spoken(self) -> bool:
        """Whether there is anything to read. White space alone is nothing: another model may still answer."""
        return bool(self.parts)

    @property
    def has_begun(self) -> bool:
        """Whether a first token has come, of whatever the model says first."""
        return bool(self.parts or self.white_space or self.has_reasoned or self.refusal or self.tool_calls)

    @property
    def text(self) -> str:
        return "".join(self.parts)

    @property
    def is_interrupted(self) -> bool:
        """Whether the answer ended before the model had finished it: its last tool call may be cut."""
        return self.finish_reason in (Finish.LENGTH, Finish.FILTERED)


class AnswerFullError(Exception):
    """The listener takes no more of the answer: stop reading it."""


class TextListener(Protocol):
    def on_text(self, text: str, chunks: int = 1) -> None:
        """Receives a piece of the answer, made of `chunks` chunks that were read together. Raises AnswerFullError."""

    def until_tick_s(self) -> float:
        """After each read that was reported: for how many seconds to collect further text."""
