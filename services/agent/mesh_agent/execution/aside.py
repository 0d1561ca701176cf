"""A model's answer that the user does not see: it is billed like any other, and several may be in progress at once."""

from collections.abc import Callable

from mesh_agent.domain.attempts import CutRound
from mesh_agent.domain.runs import MAX_ANSWER_BYTES, Usage
from mesh_agent.execution.bill import Bill
from mesh_agent.llm.completion import AnswerFullError
from mesh_agent.llm.registry import Model

# Nobody reads the text before it is whole.
_TICK_S = 1.0


class Aside:
    """`agent`: of a team; empty for the run's own assistant."""

    agent = ""

    def __init__(self) -> None:
        self.bill = Bill({})
        self._parts: list[str] = []
        self._left_bytes = MAX_ANSWER_BYTES
        self.model = ""

    def begin_round(self, prompt_tokens: Callable[[], int]) -> None:
        self.bill.begin_round(prompt_tokens)

    def on_model(self, model: Model) -> None:
        self.bill.on_model(model)
        self.model = model.name

    def on_text(self, text: str, chunks: int = 1) -> None:
        self.bill.on_text(chunks)
        self._parts.append(text)
        self._left_bytes -= len(text.encode())
        if self._left_bytes < 0:
            raise AnswerFullError

    def until_tick_s(self) -> float:
        return _TICK_S

    @property
    def text(self) -> str:
        return "".join(self._parts)

    def end_round(self, usage: Usage) -> None:
        self.bill.end_round(usage)

    def cut_round(self) -> CutRound:
        return CutRound(self.text, self.model, self.bill.cut_round())

    def fail_round(self) -> None:
        self.bill.fail_round()
