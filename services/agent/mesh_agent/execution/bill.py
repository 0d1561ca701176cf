"""The cost of an attempt: the usage that providers report for whole rounds, and our count for an interrupted one."""

from collections.abc import Callable, Mapping

from mesh_agent.domain.runs import Usage
from mesh_agent.llm.registry import Model


class Bill:
    """Calls: `begin_round`, `on_model` for each model that is called, `on_text`, then `end_round` or `fail_round`.

    A round that neither ended nor failed was interrupted by us, during an answer or the wait for one.
    """

    def __init__(self, billed: Mapping[str, Usage]) -> None:
        """`billed`: the usage of earlier attempts, by model."""
        self._billed = billed
        self._prompt_tokens: Callable[[], int] = lambda: 0
        self._called: Model | None = None
        self._chunks = 0

    def begin_round(self, prompt_tokens: Callable[[], int]) -> None:
        self._prompt_tokens = prompt_tokens
        self._called = None
        self._chunks = 0

    def on_model(self, model: Model) -> None:
        self._called = model

    def on_text(self, chunks: int) -> None:
        self._chunks += chunks

    def end_round(self, usage: Usage) -> None:
        """The model that was called last has answered."""
        self._billed = self._with(usage)
        self._called = None

    def cut_round(self) -> Usage:
        """We stopped reading the answer: the provider reported no usage. Returns our estimate."""
        usage = self.open_round()
        if self._called is not None:
            self.end_round(usage)
        return usage

    def fail_round(self) -> None:
        """No model completed its answer. One that failed before its first token costs nothing, as with providers."""
        if not self._chunks:
            self._called = None

    def by_model(self) -> Mapping[str, Usage]:
        """Includes an interrupted round, as `open_round`."""
        return self._billed if self._called is None else self._with(self.open_round())

    def open_round(self) -> Usage:
        """The cost of a round that is interrupted now: its estimated prompt, and one token per chunk."""
        return Usage() if self._called is None else self._called.usage(self._prompt_tokens(), self._chunks)

    def _with(self, usage: Usage) -> Mapping[str, Usage]:
        if self._called is None:
            raise AssertionError("no model was called in this round")
        name = self._called.name
        return {**self._billed, name: self._billed.get(name, Usage()).plus(usage)}
