from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from mesh_common.subject import Subject

from mesh_eval.domain import JudgedRun, RunScores, Score


class EvalStore(Protocol):
    """One subject's queue entries and scores, within one transaction."""

    async def queue(self, run: JudgedRun) -> bool:
        """Queues a run for judging. False if it is already queued or judged."""
        ...

    async def count_queued(self) -> int:
        """The number of the user's pending runs, including those being judged."""
        ...

    async def is_judged(self, run_id: UUID) -> bool: ...

    async def add_scores(self, run: JudgedRun, scores: Sequence[Score]) -> None:
        """Stores a run's scores. Does not change the scores of a run that is already judged."""
        ...

    async def list_scores(self, run_id: UUID) -> RunScores: ...


class UnitOfWork(Protocol):
    def as_subject(self, subject: Subject) -> AbstractAsyncContextManager[EvalStore]:
        """A store whose changes are committed at the end of the block. Raises Unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class Question:
    """The input of a judge: the metric's prompt and the texts to judge. `temperature` 0..2."""

    prompt: str
    texts: str
    temperature: float


class JudgeModel(Protocol):
    @property
    def name(self) -> str:
        """The model's name at its provider, stored with each score."""
        ...

    async def answer(self, question: Question) -> str:
        """The model's unparsed answer.

        Raises: InvalidAnswer if the provider gives none or rejects the question; Unavailable if it cannot be reached,
        is overloaded or rejects our key.
        """
        ...
