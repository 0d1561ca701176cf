"""What an attempt costs: what providers tell of whole rounds, what we counted of one that was cut."""

from collections.abc import Callable

from mesh_agent.domain import Usage
from mesh_agent.llm.registry import Model


class Bill:
    """`begin_round`, `on_model` for each model that is asked, `on_text`, then `end_round` or `fail_round`.

    A round that neither ended nor failed was cut by us, in the middle of an answer or of the wait for one.
    """

    def __init__(self, usage: Usage = Usage()) -> None:  # noqa: B008 - frozen
        self._usage = usage
        self._prompt_tokens: Callable[[], int] = lambda: 0
        self._asked: Model | None = None
        self._chunks = 0

    def begin_round(self, prompt_tokens: Callable[[], int]) -> None:
        self._prompt_tokens = prompt_tokens
        self._asked = None
        self._chunks = 0

    def on_model(self, model: Model) -> None:
        self._asked = model

    def on_text(self, chunks: int) -> None:
        self._chunks += chunks

    def end_round(self, usage: Usage) -> None:
        self._usage = self._usage.plus(usage)
        self._asked = None

    def fail_round(self) -> None:
        """No model answered whole. One that failed before it said anything costs nothing, as with providers."""
        if not self._chunks:
            self._asked = None

    def total(self) -> Usage:
        """With the round that was cut: its prompt as estimated, and a token for each chunk."""
        if self._asked is None:
            return self._usage
        return self._usage.plus(self._asked.usage(self._prompt_tokens(), self._chunks))
