from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from mesh_common.ids import UserId

from mesh_eval.domain import JudgedRun, RunScores, Score


class EvalStore(Protocol):
    """One user's queue entries and scores, within one transaction."""

    async def queue(self, run: JudgedRun) -> bool:
        """Queues a run for judging; False when it is queued or judged already."""
        ...

    async def count_queued(self) -> int:
        """How many of the user's runs wait to be judged, with those in a worker's hands."""
        ...

    async def is_judged(self, run_id: UUID) -> bool: ...

    async def add_scores(self, run: JudgedRun, scores: Sequence[Score]) -> None:
        """Stores a run's scores; those of a run that is judged already stay as they are."""
        ...

    async def list_scores(self, run_id: UUID) -> RunScores: ...


class UnitOfWork(Protocol):
    def as_user(self, user_id: UserId) -> AbstractAsyncContextManager[EvalStore]:
        """A store whose work is committed at the end of the block. Raises Unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class Question:
    """What a judge is asked: the metric's prompt, and the texts to judge. `temperature` 0..2."""

    prompt: str
    texts: str
    temperature: float


class JudgeModel(Protocol):
    @property
    def name(self) -> str:
        """The model's name at its provider, stored with each score."""
        ...

    async def answer(self, question: Question) -> str:
        """The model's answer as it came.

        Raises: InvalidAnswer when the provider gives none or refuses the question; Unavailable when it cannot be
        reached, is overloaded or does not take our key.
        """
        ...
