from collections.abc import Sequence
from dataclasses import dataclass, field

from mesh_eval.ports import Question


@dataclass
class ScriptedJudge:
    """Returns the answers in turn and repeats the last one; raises those that are errors. Records the questions."""

    answers: Sequence[str | Exception]
    name: str = "scripted"
    asked: list[Question] = field(default_factory=list)

    async def answer(self, question: Question) -> str:
        answer = self.answers[min(len(self.asked), len(self.answers) - 1)]
        self.asked.append(question)
        if isinstance(answer, Exception):
            raise answer
        return answer
