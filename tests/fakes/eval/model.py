from collections.abc import Sequence
from dataclasses import dataclass, field

from mesh_eval.ports import Question


@dataclass
class ScriptedJudge:
    """Gives the answers in turn, the last one for ever; raises those that are errors. Keeps what it was asked."""

    answers: Sequence[str | Exception]
    name: str = "scripted"
    asked: list[Question] = field(default_factory=list)

    async def answer(self, question: Question) -> str:
        answer = self.answers[min(len(self.asked), len(self.answers) - 1)]
        self.asked.append(question)
        if isinstance(answer, Exception):
            raise answer
        return answer
